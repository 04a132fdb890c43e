//! Which namespaces have something to issue for. Services of others are not kept: whoever may create Services need
//! not have opted in, and may create many.

use certmint_contract::Namespace;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The namespaces that have a workload or a Secret of ours, and whether their Services are known.
#[derive(Default)]
pub(super) struct InUse {
    of: HashMap<Namespace, Use>,
    /// The watches of Services whose first list has begun.
    begun: HashSet<Scope>,
    /// Those of which a list has begun that is not complete.
    listing: HashSet<Scope>,
    turn: u64,
}

/// The namespace that a watch is of; none when it is of all.
type Scope = Option<Namespace>;

struct Use {
    /// Workloads and Secrets of ours.
    members: usize,
    services: Services,
}

enum Services {
    /// All are known, and the watch keeps them so.
    Known,
    /// The next whole list tells of them.
    InNextList,
    /// The namespace came into use after that list had begun, so its Services have to be listed alone.
    ToBeListed(Listing),
}

#[derive(Default)]
struct Listing {
    /// Which listing it is; none when it is yet to begin.
    turn: Option<u64>,
    /// What the watch has told of meanwhile, which is newer than the listing or will be told again.
    told: HashSet<Arc<str>>,
    /// What the listing has.
    listed: HashSet<Arc<str>>,
}

impl InUse {
    /// A workload or a Secret more.
    pub(super) fn join(&mut self, namespace: &Namespace) {
        let has_begun = is_within(&self.begun, namespace);
        let to_be_listed = || Services::ToBeListed(Listing::default());
        let services = if has_begun { to_be_listed() } else { Services::InNextList };
        let entry = self.of.entry(namespace.clone()).or_insert(Use { members: 0, services });
        entry.members += 1;
    }

    /// One less. Tells whether it was the last.
    pub(super) fn leave(&mut self, namespace: &Namespace) -> bool {
        let Some(entry) = self.of.get_mut(namespace) else { return false };
        entry.members = entry.members.saturating_sub(1);
        let is_last = entry.members == 0;
        if is_last {
            self.of.remove(namespace);
        }
        is_last
    }

    /// Whether Services of the namespace are kept.
    pub(super) fn keeps(&self, namespace: &Namespace) -> bool {
        self.of.contains_key(namespace)
    }

    /// Whether all Services of the namespace are known.
    pub(super) fn knows_services(&self, namespace: &Namespace) -> bool {
        self.of.get(namespace).is_some_and(|entry| matches!(entry.services, Services::Known))
    }

    /// The watch has told of a Service.
    pub(super) fn watch_told(&mut self, namespace: &Namespace, name: &Arc<str>) {
        if let Some(Use { services: Services::ToBeListed(listing), .. }) = self.of.get_mut(namespace) {
            listing.told.insert(name.clone());
        }
    }

    /// A whole list of Services begins.
    pub(super) fn list_begins(&mut self, scope: &Scope) {
        self.begun.insert(scope.clone());
        self.listing.insert(scope.clone());
        for (_, entry) in self.of.iter_mut().filter(|(namespace, _)| has(scope, namespace)) {
            entry.services = match std::mem::replace(&mut entry.services, Services::Known) {
                Services::ToBeListed(_) => Services::InNextList,
                services => services,
            };
        }
    }

    /// Whether a whole list that has just ended had the Services of this namespace.
    pub(super) fn was_in_list(&self, namespace: &Namespace) -> bool {
        self.of.get(namespace).is_some_and(|entry| !matches!(entry.services, Services::ToBeListed(_)))
    }

    /// A whole list of Services is complete. Returns the namespaces whose Services are known since. What came into
    /// use meanwhile is listed again: the watch goes on after the list, and what was deleted in between is not told.
    pub(super) fn list_ended(&mut self, scope: &Scope) -> Vec<Namespace> {
        self.listing.remove(scope);
        let mut known = Vec::new();
        for (namespace, entry) in self.of.iter_mut().filter(|(namespace, _)| has(scope, namespace)) {
            match &mut entry.services {
                Services::InNextList => {
                    entry.services = Services::Known;
                    known.push(namespace.clone());
                }
                Services::ToBeListed(listing) => *listing = Listing::default(),
                Services::Known => {}
            }
        }
        known
    }

    /// The next namespace whose Services have to be listed, and the turn of that listing. It is nobody else's then.
    pub(super) fn begin_listing(&mut self) -> Option<(Namespace, u64)> {
        let waits =
            |entry: &Use| matches!(&entry.services, Services::ToBeListed(listing) if listing.turn.is_none());
        let next =
            |(namespace, entry): &(&Namespace, &Use)| waits(entry) && !is_within(&self.listing, namespace);
        let namespace = self.of.iter().find(next).map(|(namespace, _)| namespace.clone())?;
        self.turn += 1;
        let listing = Listing { turn: Some(self.turn), ..Listing::default() };
        self.of.get_mut(&namespace)?.services = Services::ToBeListed(listing);
        Some((namespace, self.turn))
    }

    /// A Service stands in that listing. Tells whether it is to be kept: of what the watch has told, it knows more.
    pub(super) fn listing_told(&mut self, namespace: &Namespace, turn: u64, name: &Arc<str>) -> bool {
        self.listing(namespace, turn).is_some_and(|listing| {
            listing.listed.insert(name.clone());
            !listing.told.contains(name)
        })
    }

    /// That listing is complete. Returns what stood in it and what the watch has told of; none when the listing does
    /// not count any more.
    pub(super) fn end_listing(&mut self, namespace: &Namespace, turn: u64) -> Option<HashSet<Arc<str>>> {
        let Listing { told, mut listed, .. } = std::mem::take(self.listing(namespace, turn)?);
        listed.extend(told);
        self.of.get_mut(namespace)?.services = Services::Known;
        Some(listed)
    }

    /// That listing failed, and is to begin anew.
    pub(super) fn listing_failed(&mut self, namespace: &Namespace, turn: u64) {
        if let Some(listing) = self.listing(namespace, turn) {
            *listing = Listing::default();
        }
    }

    fn listing(&mut self, namespace: &Namespace, turn: u64) -> Option<&mut Listing> {
        match &mut self.of.get_mut(namespace)?.services {
            Services::ToBeListed(listing) if listing.turn == Some(turn) => Some(listing),
            _ => None,
        }
    }
}

fn has(scope: &Scope, namespace: &Namespace) -> bool {
    scope.as_ref().is_none_or(|scope| scope == namespace)
}

fn is_within(scopes: &HashSet<Scope>, namespace: &Namespace) -> bool {
    scopes.contains(&None) || scopes.contains(&Some(namespace.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn shop() -> Namespace {
        "shop".parse().unwrap()
    }

    #[test]
    fn what_is_in_use_before_the_first_list_is_known_with_it() {
        let mut in_use = InUse::default();
        in_use.join(&shop());
        in_use.list_begins(&None);
        assert!(!in_use.knows_services(&shop()));
        assert_eq!(in_use.list_ended(&None), [shop()]);
        assert!(in_use.knows_services(&shop()) && in_use.begin_listing().is_none());
    }

    #[test]
    fn what_comes_into_use_later_is_listed_alone_and_only_once() {
        let mut in_use = InUse::default();
        in_use.list_begins(&None);
        in_use.join(&shop());
        assert!(in_use.begin_listing().is_none(), "the whole list is not complete");
        assert!(in_use.list_ended(&None).is_empty());
        let (namespace, turn) = in_use.begin_listing().unwrap();
        assert!(in_use.begin_listing().is_none() && !in_use.knows_services(&namespace));
        in_use.watch_told(&shop(), &"gone".into());
        assert!(in_use.listing_told(&shop(), turn, &"payments".into()));
        assert!(!in_use.listing_told(&shop(), turn, &"gone".into()), "the watch knows better");
        let found = in_use.end_listing(&shop(), turn).unwrap();
        assert_eq!(found, HashSet::from(["payments".into(), "gone".into()]));
        assert!(in_use.knows_services(&shop()));
    }

    #[test]
    fn a_listing_that_was_overtaken_by_a_whole_list_does_not_count() {
        let mut in_use = InUse::default();
        in_use.list_begins(&None);
        in_use.list_ended(&None);
        in_use.join(&shop());
        let (_, turn) = in_use.begin_listing().unwrap();
        in_use.list_begins(&None);
        assert!(!in_use.listing_told(&shop(), turn, &"payments".into()));
        assert!(in_use.end_listing(&shop(), turn).is_none() && !in_use.knows_services(&shop()));
        assert_eq!(in_use.list_ended(&None), [shop()]);
    }

    #[test]
    fn a_listing_that_failed_or_whose_namespace_was_left_meanwhile_begins_anew() {
        let mut in_use = InUse::default();
        in_use.list_begins(&None);
        in_use.list_ended(&None);
        in_use.join(&shop());
        let (_, first) = in_use.begin_listing().unwrap();
        in_use.listing_failed(&shop(), first);
        let (_, second) = in_use.begin_listing().unwrap();
        assert!(in_use.end_listing(&shop(), first).is_none());
        assert!(in_use.leave(&shop()));
        in_use.join(&shop());
        assert!(in_use.end_listing(&shop(), second).is_none());
        assert!(in_use.begin_listing().is_some());
    }

    #[test]
    fn the_list_of_one_namespace_says_nothing_of_another() {
        let (mut in_use, other) = (InUse::default(), "other".parse().unwrap());
        in_use.join(&shop());
        in_use.join(&other);
        in_use.list_begins(&Some(shop()));
        assert_eq!(in_use.list_ended(&Some(shop())), [shop()]);
        assert!(in_use.knows_services(&shop()) && !in_use.knows_services(&other));
    }

    /// What can happen to the Services of a namespace, as the API server has them and as they are told.
    #[derive(Clone, Debug)]
    enum Step {
        Create(u8),
        Delete(u8),
        /// The watch tells the next of what has happened.
        Watch,
        /// The watch is broken, and lists all.
        Relist,
        Join,
        Leave,
        BeginListing,
        /// The API server answers the listing.
        AnswerListing,
        EndListing,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..4).prop_map(Step::Create),
            4 => (0_u8..4).prop_map(Step::Delete),
            6 => Just(Step::Watch),
            1 => Just(Step::Relist),
            2 => Just(Step::Join),
            1 => Just(Step::Leave),
            3 => Just(Step::BeginListing),
            3 => Just(Step::AnswerListing),
            3 => Just(Step::EndListing),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn when_the_watch_has_told_all_what_is_kept_is_what_there_is(
            steps in prop::collection::vec(any_step(), 0..60),
        ) {
            let mut in_use = InUse::default();
            in_use.list_begins(&None);
            in_use.list_ended(&None);
            // As the API server has them, and as they are kept.
            let (mut real, mut kept) = (BTreeSet::new(), BTreeSet::new());
            let (mut untold, mut joined, mut turn, mut answer) = (Vec::new(), false, None, None);
            let name = |index: u8| -> Arc<str> { index.to_string().into() };
            for step in steps.into_iter().chain([Step::BeginListing, Step::AnswerListing, Step::EndListing]) {
                match step {
                    Step::Create(index) => {
                        real.insert(name(index));
                        untold.push((name(index), true));
                    }
                    Step::Delete(index) => {
                        if real.remove(&name(index)) {
                            untold.push((name(index), false));
                        }
                    }
                    Step::Watch => {
                        if !untold.is_empty() {
                            tell(&mut in_use, &mut kept, untold.remove(0));
                        }
                    }
                    Step::Relist => {
                        untold.clear();
                        in_use.list_begins(&None);
                        if in_use.keeps(&shop()) {
                            kept = real.clone();
                        }
                        in_use.list_ended(&None);
                    }
                    Step::Join if !joined => {
                        joined = true;
                        in_use.join(&shop());
                    }
                    Step::Leave if joined => {
                        joined = false;
                        in_use.leave(&shop());
                        kept.clear();
                    }
                    Step::BeginListing => {
                        if let Some((_, begun)) = in_use.begin_listing() {
                            (turn, answer) = (Some(begun), None);
                        }
                    }
                    Step::AnswerListing => answer = answer.or_else(|| turn.map(|_| real.clone())),
                    Step::EndListing => {
                        if let (Some(ended), Some(found)) = (turn, answer.take()) {
                            turn = None;
                            for name in found {
                                if in_use.listing_told(&shop(), ended, &name) {
                                    kept.insert(name);
                                }
                            }
                            if let Some(found) = in_use.end_listing(&shop(), ended) {
                                kept.retain(|name| found.contains(name));
                            }
                        }
                    }
                    Step::Join | Step::Leave => {}
                }
            }
            for event in untold {
                tell(&mut in_use, &mut kept, event);
            }
            if in_use.knows_services(&shop()) {
                prop_assert_eq!(kept, real);
            } else {
                prop_assert!(!joined || in_use.begin_listing().is_some() || turn.is_some());
            }
        }
    }

    fn tell(in_use: &mut InUse, kept: &mut BTreeSet<Arc<str>>, (name, is_there): (Arc<str>, bool)) {
        if !in_use.keeps(&shop()) {
            return;
        }
        in_use.watch_told(&shop(), &name);
        if is_there {
            kept.insert(name);
        } else {
            kept.remove(&name);
        }
    }
}
