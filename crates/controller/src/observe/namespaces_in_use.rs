//! Keeps the list of the namespaces in use: those that have a workload or a Secret of Certmint.
//!
//! The cache keeps the Services of these namespaces only. Users who never opted in may create any number of Services,
//! which would take memory without need.
//!
//! A namespace can come into use while the watch of Services runs. The watch does not deliver the existing Services of
//! that namespace again, so the controller lists them once. If the listing and the watch differ about a Service, the
//! cache keeps the version that the watch delivered. It is newer than the listing, or the watch will deliver a newer
//! version.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use certmint_contract::Namespace;

/// Namespaces that have a workload or a Secret of Certmint, and whether their Services are known.
#[derive(Default)]
pub(super) struct NamespacesInUse {
    uses: HashMap<Namespace, NamespaceUse>,
    /// Watches of Services whose first list has begun.
    begun: HashSet<WatchScope>,
    /// Watches of Services with a list that has begun and is not complete.
    lists_in_progress: HashSet<WatchScope>,
    last_number: u64,
}

/// Identity of one listing of a namespace's Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListingId {
    /// Namespace whose Services are listed.
    pub(super) namespace: Namespace,
    /// Number of the listing, unique in this process.
    number: u64,
}

/// Namespace of a watch; `None` for a watch of all namespaces.
type WatchScope = Option<Namespace>;

struct NamespaceUse {
    /// Number of workloads and Secrets.
    members: usize,
    services: KnownServices,
}

/// State of knowledge about the Services of a namespace.
enum KnownServices {
    /// The Services are known, and the watch keeps them up to date.
    All,
    /// The next full list of the watch will contain them.
    InNextFullList,
    /// The namespace came into use after the watch began its list, so its Services must be listed once.
    NeedListing(NamespaceListing),
}

/// Progress of listing the Services of one namespace.
#[derive(Default)]
struct NamespaceListing {
    /// Number of the listing; `None` before it begins.
    number: Option<u64>,
    /// Services that the watch reported as changed or deleted since the listing began.
    watched: HashSet<Arc<str>>,
    /// Services in the listing.
    listed: HashSet<Arc<str>>,
}

impl NamespacesInUse {
    /// Counts a new workload or Secret.
    pub(super) fn add_member(&mut self, namespace: &Namespace) {
        let services = if any_covers(&self.begun, namespace) {
            KnownServices::NeedListing(NamespaceListing::default())
        } else {
            KnownServices::InNextFullList
        };
        let new_use = NamespaceUse { members: 0, services };
        self.uses.entry(namespace.clone()).or_insert(new_use).members += 1;
    }

    /// Counts a workload or Secret that is gone. Returns whether it was the last one of the namespace.
    pub(super) fn remove_member(&mut self, namespace: &Namespace) -> bool {
        let Some(namespace_use) = self.uses.get_mut(namespace) else { return false };
        namespace_use.members = namespace_use.members.saturating_sub(1);
        let is_last = namespace_use.members == 0;
        if is_last {
            self.uses.remove(namespace);
        }
        is_last
    }

    /// Returns whether the cache keeps the Services of the namespace.
    pub(super) fn keeps_services(&self, namespace: &Namespace) -> bool {
        self.uses.contains_key(namespace)
    }

    /// Returns whether all Services of the namespace are known.
    pub(super) fn knows_services(&self, namespace: &Namespace) -> bool {
        let namespace_use = self.uses.get(namespace);
        namespace_use.is_some_and(|namespace_use| matches!(namespace_use.services, KnownServices::All))
    }

    /// Notes that the watch has reported a Service as changed or deleted.
    pub(super) fn note_watched(&mut self, namespace: &Namespace, name: &Arc<str>) {
        let services = self.uses.get_mut(namespace).map(|namespace_use| &mut namespace_use.services);
        if let Some(KnownServices::NeedListing(listing)) = services {
            listing.watched.insert(name.clone());
        }
    }

    /// Notes that the watch begins a full list.
    pub(super) fn full_list_begins(&mut self, scope: &WatchScope) {
        self.begun.insert(scope.clone());
        self.lists_in_progress.insert(scope.clone());
        for (_, namespace_use) in self.uses.iter_mut().filter(|(namespace, _)| covers(scope, namespace)) {
            if let KnownServices::NeedListing(_) = namespace_use.services {
                namespace_use.services = KnownServices::InNextFullList;
            }
        }
    }

    /// Returns whether the full list that has just ended contained the Services of this namespace.
    pub(super) fn was_in_full_list(&self, namespace: &Namespace) -> bool {
        let namespace_use = self.uses.get(namespace);
        namespace_use
            .is_some_and(|namespace_use| !matches!(namespace_use.services, KnownServices::NeedListing(_)))
    }

    /// Notes that the watch's full list is complete. Returns the namespaces whose Services became known through it.
    pub(super) fn full_list_ended(&mut self, scope: &WatchScope) -> Vec<Namespace> {
        self.lists_in_progress.remove(scope);
        let mut known = Vec::new();
        for (namespace, namespace_use) in
            self.uses.iter_mut().filter(|(namespace, _)| covers(scope, namespace))
        {
            match &mut namespace_use.services {
                KnownServices::InNextFullList => {
                    namespace_use.services = KnownServices::All;
                    known.push(namespace.clone());
                }
                // The namespace came into use while the list was read. Its listing starts again, because the watch
                // continues from the end of the list and does not deliver earlier deletions.
                KnownServices::NeedListing(listing) => *listing = NamespaceListing::default(),
                KnownServices::All => {}
            }
        }
        known
    }

    /// Begins the listing of a namespace that needs one, and returns it. `None` when no namespace needs one.
    pub(super) fn begin_listing(&mut self) -> Option<ListingId> {
        let needs_listing = |namespace_use: &NamespaceUse| matches!(&namespace_use.services, KnownServices::NeedListing(listing) if listing.number.is_none());
        let (namespace, _) = self.uses.iter().find(|(namespace, namespace_use)| {
            needs_listing(namespace_use) && !any_covers(&self.lists_in_progress, namespace)
        })?;
        let namespace = namespace.clone();
        self.last_number += 1;
        let number = self.last_number;
        let listing = NamespaceListing { number: Some(number), ..NamespaceListing::default() };
        self.uses.get_mut(&namespace)?.services = KnownServices::NeedListing(listing);
        Some(ListingId { namespace, number })
    }

    /// Notes a Service of a listing. Returns whether to store it: if the watch has reported the Service since the
    /// listing began, the watch is newer.
    pub(super) fn note_listed(&mut self, id: &ListingId, name: &Arc<str>) -> bool {
        self.listing(id).is_some_and(|listing| {
            listing.listed.insert(name.clone());
            !listing.watched.contains(name)
        })
    }

    /// Notes that a listing is complete. Returns the Services that the listing or the watch has reported, or `None` if
    /// the listing was replaced.
    pub(super) fn listing_ended(&mut self, id: &ListingId) -> Option<HashSet<Arc<str>>> {
        let NamespaceListing { watched, mut listed, .. } = std::mem::take(self.listing(id)?);
        listed.extend(watched);
        self.uses.get_mut(&id.namespace)?.services = KnownServices::All;
        Some(listed)
    }

    /// Notes that a listing failed. The namespace needs another one.
    pub(super) fn listing_failed(&mut self, id: &ListingId) {
        if let Some(listing) = self.listing(id) {
            *listing = NamespaceListing::default();
        }
    }

    /// Returns a listing, unless it was replaced: by a full list, or because the namespace was not in use for a while.
    fn listing(&mut self, id: &ListingId) -> Option<&mut NamespaceListing> {
        match &mut self.uses.get_mut(&id.namespace)?.services {
            KnownServices::NeedListing(listing) if listing.number == Some(id.number) => Some(listing),
            _ => None,
        }
    }
}

/// Returns whether a watch of this scope delivers objects of the namespace.
fn covers(scope: &WatchScope, namespace: &Namespace) -> bool {
    scope.as_ref().is_none_or(|scope| scope == namespace)
}

/// Returns whether a watch of one of the scopes delivers objects of the namespace.
fn any_covers(scopes: &HashSet<WatchScope>, namespace: &Namespace) -> bool {
    scopes.contains(&None) || scopes.contains(&Some(namespace.clone()))
}

#[cfg(test)]
mod tests;
