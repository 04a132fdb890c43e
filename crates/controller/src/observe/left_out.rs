//! Objects that are left out because they, or all of their namespace, are more than is kept.

use super::{decode::Excess, index::Name, tables::What};
use crate::{
    events::{Events, Subject},
    leadership::{self, Term},
    metrics::Metrics,
    observe::Observed,
};
use certmint_contract::{ErrorCode, Namespace};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// Objects of one namespace that are told by name: who has more of them needs no more to understand.
const MAX_TOLD_OF_ONE: usize = 20;
/// Namespaces of which any are.
const MAX_NAMESPACES: usize = 500;
/// How soon it is told.
const PACE: Duration = Duration::from_secs(2);

/// What is left out, as far as it is told.
#[derive(Default)]
pub(super) struct LeftOut {
    objects: BTreeMap<Namespace, BTreeMap<Object, Why>>,
    /// Of what something was left out since the last list, because its namespace had no room.
    without_room: HashSet<What>,
}

/// An object of a namespace, by its name.
type Object = (What, Arc<str>);

/// Why it is left out.
struct Why {
    uid: Box<str>,
    excess: Excess,
}

impl LeftOut {
    pub(super) fn put(&mut self, what: What, (namespace, name): &Name, uid: &str, excess: Excess) {
        if excess == Excess::Namespace {
            self.without_room.insert(what);
        }
        let has_room = self.objects.len() < MAX_NAMESPACES || self.objects.contains_key(namespace);
        if !has_room {
            return;
        }
        let told = self.objects.entry(namespace.clone()).or_default();
        let key = (what, name.clone());
        if told.len() < MAX_TOLD_OF_ONE || told.contains_key(&key) {
            told.insert(key, Why { uid: uid.into(), excess });
        }
    }

    pub(super) fn remove(&mut self, what: What, (namespace, name): &Name) {
        let Some(told) = self.objects.get_mut(namespace) else { return };
        told.remove(&(what, name.clone()));
        if told.is_empty() {
            self.objects.remove(namespace);
        }
    }

    /// A list of all begins, which tells anew of what is left out.
    pub(super) fn list_begins(&mut self, what: What, scope: Option<&Namespace>) {
        self.without_room.remove(&what);
        let is_listed = |namespace: &Namespace| scope.is_none_or(|scope| scope == namespace);
        for (_, told) in self.objects.iter_mut().filter(|(namespace, _)| is_listed(namespace)) {
            told.retain(|(of, _), _| *of != what);
        }
        self.objects.retain(|_, told| !told.is_empty());
    }

    /// The Services of a namespace are not kept any more.
    pub(super) fn forget_services(&mut self, namespace: &Namespace) {
        if let Some(told) = self.objects.get_mut(namespace) {
            told.retain(|(of, _), _| *of != What::Service);
        }
        self.objects.retain(|_, told| !told.is_empty());
    }

    /// Whether something of that kind may find room later.
    pub(super) fn wants_room(&self, what: What) -> bool {
        self.without_room.contains(&what)
    }

    pub(super) fn all(&self) -> Vec<(Subject, Excess)> {
        self.objects.iter().flat_map(|(namespace, told)| subjects(namespace, told)).collect()
    }
}

fn subjects(namespace: &Namespace, told: &BTreeMap<Object, Why>) -> Vec<(Subject, Excess)> {
    let subject = |((what, name), Why { uid, excess }): (&Object, &Why)| {
        let (api_version, kind) = what.api_version_and_kind();
        let (namespace, uid) = (namespace.as_str().into(), Some(uid.clone()));
        (Subject { api_version, kind, namespace, name: name.clone(), uid }, *excess)
    };
    told.iter().map(subject).collect()
}

/// Tells of what is left out.
pub(crate) struct LeftOutTeller {
    /// Where it is known.
    pub(crate) observed: Arc<Observed>,
    /// Whether this replica is the one that tells.
    pub(crate) terms: watch::Receiver<Term>,
    /// Where it is told.
    pub(crate) events: Events,
    /// Where it is counted.
    pub(crate) metrics: Metrics,
}

impl LeftOutTeller {
    /// Never returns.
    pub(crate) async fn run(self) {
        loop {
            self.tell();
            tokio::time::sleep(PACE).await;
        }
    }

    fn tell(&self) {
        let left_out = self.observed.left_out();
        self.metrics.left_out.set(left_out.len().try_into().unwrap_or(i64::MAX));
        if !leadership::leads(&self.terms) {
            return;
        }
        let code = ErrorCode::TooLarge;
        for (subject, excess) in left_out {
            let note = format!("{subject} is left out: {excess}");
            if self.events.refused(&subject, code, &note) {
                tracing::warn!(%code, "{note}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(namespace: usize, object: usize) -> Name {
        (format!("n{namespace}").parse().unwrap(), format!("o{object}").into())
    }

    #[test]
    fn however_much_is_left_out_little_is_remembered_and_each_namespace_is_told() {
        let mut left_out = LeftOut::default();
        for object in 0..1_000 {
            left_out.put(What::Service, &name(0, object), "u", Excess::Selector);
        }
        for namespace in 1..1_000 {
            left_out.put(What::Service, &name(namespace, 0), "u", Excess::Selector);
        }
        assert_eq!(left_out.all().len(), MAX_TOLD_OF_ONE + MAX_NAMESPACES - 1);
        assert!(!left_out.wants_room(What::Service));
        for object in 0..1_000 {
            left_out.remove(What::Service, &name(0, object));
        }
        assert_eq!(left_out.all().len(), MAX_NAMESPACES - 1);
    }

    #[test]
    fn what_found_no_room_is_looked_for_until_the_next_list() {
        let mut left_out = LeftOut::default();
        left_out.put(What::Secret, &name(0, 0), "u", Excess::Namespace);
        assert!(left_out.wants_room(What::Secret) && !left_out.wants_room(What::Service));
        left_out.list_begins(What::Secret, None);
        assert!(!left_out.wants_room(What::Secret) && left_out.all().is_empty());
    }
}
