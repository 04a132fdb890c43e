//! Tests of the namespaces in use, with a simulated watch and listing.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn shop() -> Namespace {
    "shop".parse().unwrap()
}

#[test]
fn the_first_full_list_covers_namespaces_in_use() {
    let mut namespaces = NamespacesInUse::default();
    namespaces.add_member(&shop());
    namespaces.full_list_begins(&None);
    assert!(!namespaces.knows_services(&shop()));
    assert_eq!(namespaces.full_list_ended(&None), [shop()]);
    assert!(namespaces.knows_services(&shop()) && namespaces.begin_listing().is_none());
}

#[test]
fn a_namespace_in_use_later_is_listed_once() {
    let mut namespaces = NamespacesInUse::default();
    namespaces.full_list_begins(&None);
    namespaces.add_member(&shop());
    assert!(namespaces.begin_listing().is_none(), "the full list is not complete");
    assert!(namespaces.full_list_ended(&None).is_empty());
    let listing = namespaces.begin_listing().unwrap();
    assert!(namespaces.begin_listing().is_none() && !namespaces.knows_services(&listing.namespace));
    namespaces.note_watched(&shop(), &"gone".into());
    assert!(namespaces.note_listed(&listing, &"payments".into()));
    assert!(!namespaces.note_listed(&listing, &"gone".into()), "the watch is newer");
    let found = namespaces.listing_ended(&listing).unwrap();
    assert_eq!(found, HashSet::from(["payments".into(), "gone".into()]));
    assert!(namespaces.knows_services(&shop()));
}

#[test]
fn a_full_list_replaces_a_listing() {
    let mut namespaces = NamespacesInUse::default();
    namespaces.full_list_begins(&None);
    namespaces.full_list_ended(&None);
    namespaces.add_member(&shop());
    let listing = namespaces.begin_listing().unwrap();
    namespaces.full_list_begins(&None);
    assert!(!namespaces.note_listed(&listing, &"payments".into()));
    assert!(namespaces.listing_ended(&listing).is_none() && !namespaces.knows_services(&shop()));
    assert_eq!(namespaces.full_list_ended(&None), [shop()]);
}

#[test]
fn a_failed_or_outdated_listing_starts_again() {
    let mut namespaces = NamespacesInUse::default();
    namespaces.full_list_begins(&None);
    namespaces.full_list_ended(&None);
    namespaces.add_member(&shop());
    let first = namespaces.begin_listing().unwrap();
    namespaces.listing_failed(&first);
    let second = namespaces.begin_listing().unwrap();
    assert!(namespaces.listing_ended(&first).is_none());
    assert!(namespaces.remove_member(&shop()));
    namespaces.add_member(&shop());
    assert!(namespaces.listing_ended(&second).is_none());
    assert!(namespaces.begin_listing().is_some());
}

#[test]
fn the_list_of_one_namespace_covers_no_other() {
    let (mut namespaces, other) = (NamespacesInUse::default(), "other".parse().unwrap());
    namespaces.add_member(&shop());
    namespaces.add_member(&other);
    namespaces.full_list_begins(&Some(shop()));
    assert_eq!(namespaces.full_list_ended(&Some(shop())), [shop()]);
    assert!(namespaces.knows_services(&shop()) && !namespaces.knows_services(&other));
}

/// Step of the simulation: a change in the cluster, or a step of the watch or the listing.
#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Delete(u8),
    /// The watch delivers the next change.
    Watch,
    /// The watch was interrupted, and lists all Services again.
    Relist,
    AddMember,
    RemoveMember,
    BeginListing,
    /// The API server answers the listing.
    AnswerListing,
    EndListing,
}

/// Change of a Service that the watch has not delivered yet.
struct Change {
    name: Arc<str>,
    exists: bool,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..4).prop_map(Step::Create),
        4 => (0_u8..4).prop_map(Step::Delete),
        6 => Just(Step::Watch),
        1 => Just(Step::Relist),
        2 => Just(Step::AddMember),
        1 => Just(Step::RemoveMember),
        3 => Just(Step::BeginListing),
        3 => Just(Step::AnswerListing),
        3 => Just(Step::EndListing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn keeps_exactly_the_existing_services_in_the_end(
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        let mut namespaces = NamespacesInUse::default();
        namespaces.full_list_begins(&None);
        namespaces.full_list_ended(&None);
        // Services of the API server, and Services that the cache keeps.
        let (mut existing, mut kept) = (BTreeSet::new(), BTreeSet::new());
        let mut undelivered = Vec::new();
        let (mut is_in_use, mut listing, mut answer) = (false, None, None);
        let name = |index: u8| -> Arc<str> { index.to_string().into() };
        for step in steps.into_iter().chain([Step::BeginListing, Step::AnswerListing, Step::EndListing]) {
            match step {
                Step::Create(index) => {
                    existing.insert(name(index));
                    undelivered.push(Change { name: name(index), exists: true });
                }
                Step::Delete(index) => {
                    if existing.remove(&name(index)) {
                        undelivered.push(Change { name: name(index), exists: false });
                    }
                }
                Step::Watch => {
                    if !undelivered.is_empty() {
                        deliver(&mut namespaces, &mut kept, undelivered.remove(0));
                    }
                }
                Step::Relist => {
                    undelivered.clear();
                    namespaces.full_list_begins(&None);
                    if namespaces.keeps_services(&shop()) {
                        kept = existing.clone();
                    }
                    namespaces.full_list_ended(&None);
                }
                Step::AddMember if !is_in_use => {
                    is_in_use = true;
                    namespaces.add_member(&shop());
                }
                Step::RemoveMember if is_in_use => {
                    is_in_use = false;
                    namespaces.remove_member(&shop());
                    kept.clear();
                }
                Step::AddMember | Step::RemoveMember => {}
                Step::BeginListing => {
                    if let Some(begun) = namespaces.begin_listing() {
                        (listing, answer) = (Some(begun), None);
                    }
                }
                Step::AnswerListing => answer = answer.or_else(|| listing.as_ref().map(|_| existing.clone())),
                Step::EndListing => {
                    if let Some(listed) = answer.take()
                        && let Some(ended) = listing.take()
                    {
                        for name in listed {
                            if namespaces.note_listed(&ended, &name) {
                                kept.insert(name);
                            }
                        }
                        if let Some(listed) = namespaces.listing_ended(&ended) {
                            kept.retain(|name| listed.contains(name));
                        }
                    }
                }
            }
        }
        for change in undelivered {
            deliver(&mut namespaces, &mut kept, change);
        }
        if namespaces.knows_services(&shop()) {
            prop_assert_eq!(kept, existing);
        } else {
            prop_assert!(!is_in_use || namespaces.begin_listing().is_some() || listing.is_some());
        }
    }
}

/// Delivers a change as the watch does.
fn deliver(namespaces: &mut NamespacesInUse, kept: &mut BTreeSet<Arc<str>>, Change { name, exists }: Change) {
    if !namespaces.keeps_services(&shop()) {
        return;
    }
    namespaces.note_watched(&shop(), &name);
    if exists {
        kept.insert(name);
    } else {
        kept.remove(&name);
    }
}
