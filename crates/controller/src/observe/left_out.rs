//! Remembers the objects that the cache leaves out because they, or the objects of their namespace together, exceed a
//! limit.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use certmint_contract::Namespace;

use super::keys::ObjectKey;
use super::kind::WatchedKind;
use super::object::ExceededLimit;
use crate::events::InvolvedObject;

/// Maximum number of left-out objects that are remembered of one namespace. Events on more objects would not help the
/// namespace's users.
const MAX_OBJECTS_PER_NAMESPACE: usize = 20;
/// Maximum number of namespaces with left-out objects that are remembered.
const MAX_NAMESPACES: usize = 500;

/// Left-out objects, as far as they are remembered.
#[derive(Default)]
pub(super) struct LeftOutObjects {
    by_namespace: BTreeMap<Namespace, BTreeMap<KindAndName, LeftOutObject>>,
    /// Kinds with an object that was left out since the last list, because its namespace had used its share of the
    /// memory.
    kinds_without_room: HashSet<WatchedKind>,
}

/// Key of an object in its namespace.
type KindAndName = (WatchedKind, Arc<str>);

/// Object that is left out.
struct LeftOutObject {
    uid: Box<str>,
    exceeded: ExceededLimit,
}

impl LeftOutObjects {
    /// Remembers an object and the limit that it exceeds.
    pub(super) fn put(&mut self, kind: WatchedKind, key: &ObjectKey, uid: &str, exceeded: ExceededLimit) {
        if exceeded == ExceededLimit::Namespace {
            self.kinds_without_room.insert(kind);
        }
        let has_room =
            self.by_namespace.len() < MAX_NAMESPACES || self.by_namespace.contains_key(&key.namespace);
        if !has_room {
            return;
        }
        let objects = self.by_namespace.entry(key.namespace.clone()).or_default();
        let name = (kind, key.name.clone());
        if objects.len() < MAX_OBJECTS_PER_NAMESPACE || objects.contains_key(&name) {
            objects.insert(name, LeftOutObject { uid: uid.into(), exceeded });
        }
    }

    /// Forgets an object that is gone or within the limits now.
    pub(super) fn remove(&mut self, kind: WatchedKind, key: &ObjectKey) {
        let Some(objects) = self.by_namespace.get_mut(&key.namespace) else { return };
        objects.remove(&(kind, key.name.clone()));
        if objects.is_empty() {
            self.by_namespace.remove(&key.namespace);
        }
    }

    /// Forgets the objects of a watch that begins a full list. The list delivers them again.
    pub(super) fn full_list_begins(&mut self, kind: WatchedKind, scope: Option<&Namespace>) {
        self.kinds_without_room.remove(&kind);
        let is_listed = |namespace: &Namespace| scope.is_none_or(|scope| scope == namespace);
        for (_, objects) in self.by_namespace.iter_mut().filter(|(namespace, _)| is_listed(namespace)) {
            objects.retain(|(known, _), _| *known != kind);
        }
        self.by_namespace.retain(|_, objects| !objects.is_empty());
    }

    /// Forgets the Services of a namespace whose Services are no longer kept.
    pub(super) fn forget_services(&mut self, namespace: &Namespace) {
        if let Some(objects) = self.by_namespace.get_mut(namespace) {
            objects.retain(|(kind, _), _| *kind != WatchedKind::Service);
        }
        self.by_namespace.retain(|_, objects| !objects.is_empty());
    }

    /// Returns whether an object of the kind was left out for lack of memory. Such an object may have room later.
    pub(super) fn lacks_room(&self, kind: WatchedKind) -> bool {
        self.kinds_without_room.contains(&kind)
    }

    /// Returns all remembered objects and the limits that they exceed.
    pub(super) fn all(&self) -> Vec<(InvolvedObject, ExceededLimit)> {
        let by_namespace = self.by_namespace.iter();
        by_namespace.flat_map(|(namespace, objects)| involved_objects(namespace, objects)).collect()
    }
}

fn involved_objects(
    namespace: &Namespace,
    objects: &BTreeMap<KindAndName, LeftOutObject>,
) -> Vec<(InvolvedObject, ExceededLimit)> {
    let object = |((kind, name), LeftOutObject { uid, exceeded }): (&KindAndName, &LeftOutObject)| {
        let object = InvolvedObject {
            api_version: kind.api_version(),
            kind: kind.as_str(),
            namespace: namespace.as_str().into(),
            name: name.clone(),
            uid: Some(uid.clone()),
        };
        (object, *exceeded)
    };
    objects.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: usize, object: usize) -> ObjectKey {
        ObjectKey::new(&format!("n{namespace}").parse().unwrap(), format!("o{object}"))
    }

    #[test]
    fn remembers_few_objects_of_many_namespaces() {
        let mut left_out = LeftOutObjects::default();
        for object in 0..1_000 {
            left_out.put(WatchedKind::Service, &key(0, object), "u", ExceededLimit::Selector);
        }
        for namespace in 1..1_000 {
            left_out.put(WatchedKind::Service, &key(namespace, 0), "u", ExceededLimit::Selector);
        }
        assert_eq!(left_out.all().len(), MAX_OBJECTS_PER_NAMESPACE + MAX_NAMESPACES - 1);
        assert!(!left_out.lacks_room(WatchedKind::Service));
        for object in 0..1_000 {
            left_out.remove(WatchedKind::Service, &key(0, object));
        }
        assert_eq!(left_out.all().len(), MAX_NAMESPACES - 1);
    }

    #[test]
    fn a_kind_lacks_room_until_its_next_list() {
        let mut left_out = LeftOutObjects::default();
        left_out.put(WatchedKind::Secret, &key(0, 0), "u", ExceededLimit::Namespace);
        assert!(left_out.lacks_room(WatchedKind::Secret) && !left_out.lacks_room(WatchedKind::Service));
        left_out.full_list_begins(WatchedKind::Secret, None);
        assert!(!left_out.lacks_room(WatchedKind::Secret) && left_out.all().is_empty());
    }
}
