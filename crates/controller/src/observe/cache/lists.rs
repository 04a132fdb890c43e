//! Changes the cache for the watches and the listings of Services.
//!
//! A full list is the list with which a watch begins. A listing is a separate request for the Services of one namespace
//! (see [`namespaces_in_use`](crate::observe::namespaces_in_use)).

use std::collections::HashSet;
use std::sync::Arc;

use certmint_contract::Namespace;

use super::Cache;
use crate::observe::keys::{ObjectKey, WorkloadKey};
use crate::observe::kind::WatchedKind;
use crate::observe::namespaces_in_use::ListingId;
use crate::observe::object::{Unreadable, WatchedObject};
use crate::observe::state::State;

/// Result of storing an object.
struct Applied {
    /// Workloads that the change may affect.
    affected: Vec<WorkloadKey>,
    /// Key of the object; `None` when the object is not a workload, or has finished.
    key: Result<Option<ObjectKey>, Unreadable>,
}

impl Cache {
    /// Returns whether every watch has delivered its first list.
    pub(crate) fn is_synced(&self) -> bool {
        *self.unsynced.borrow() == 0
    }

    /// Waits until every watch has delivered its first list.
    pub(crate) async fn wait_for_sync(&self) {
        self.wait_for_unsynced(0).await;
    }

    /// Waits until at most `max` watches have not delivered their first list.
    pub(in crate::observe) async fn wait_for_unsynced(&self, max: usize) {
        // The wait cannot fail, because self owns the sender.
        let _ = self.unsynced.subscribe().wait_for(|unsynced| *unsynced <= max).await;
    }

    /// Notes that a watch has delivered its first list, or that it cannot because its namespace is unreadable.
    pub(in crate::observe) fn first_list_done(&self, unreadable: Option<&Namespace>) {
        let mut state = self.write();
        state.unreadable_namespaces.extend(unreadable.cloned());
        self.unsynced.send_modify(|unsynced| *unsynced = unsynced.saturating_sub(1));
        state.is_complete = self.is_synced();
    }

    /// Notes that a watch begins a full list.
    pub(in crate::observe) fn full_list_begins(&self, kind: WatchedKind, scope: Option<&Namespace>) {
        let mut state = self.write();
        state.left_out.full_list_begins(kind, scope);
        if kind == WatchedKind::Service {
            state.namespaces_in_use.full_list_begins(&scope.cloned());
        }
    }

    /// Notes that a watch has listed everything, and removes the objects that were not in the list.
    pub(in crate::observe) fn full_list_ended(
        &self,
        kind: WatchedKind,
        scope: Option<&Namespace>,
        listed: &HashSet<ObjectKey>,
    ) {
        let known = self.keys(kind, scope);
        for key in known.iter().filter(|key| !listed.contains(*key)) {
            // If the namespace came into use after the list began, the cache did not keep all listed Services.
            let was_listed = kind != WatchedKind::Service
                || self.read().namespaces_in_use.was_in_full_list(&key.namespace);
            if was_listed {
                self.remove(kind, key);
            }
        }
        if kind == WatchedKind::Service {
            self.full_list_of_services_ended(scope);
        }
    }

    fn full_list_of_services_ended(&self, scope: Option<&Namespace>) {
        let mut state = self.write();
        let known = state.namespaces_in_use.full_list_ended(&scope.cloned());
        // Before all first lists are complete no workload waits for Services, because nothing is planned yet.
        let waiting = known
            .iter()
            .filter(|_| state.is_complete)
            .flat_map(|namespace| state.workload_keys_in(namespace));
        let waiting: Vec<_> = waiting.collect();
        drop(state);
        self.enqueue(waiting);
        self.listing_may_be_needed.notify_one();
    }

    /// Stores an object that a watch delivered. Returns its key, or `None` when it is not a workload, or has finished.
    pub(in crate::observe) fn upsert(
        &self,
        kind: WatchedKind,
        object: &WatchedObject,
    ) -> Result<Option<ObjectKey>, Unreadable> {
        let mut state = self.write();
        if kind == WatchedKind::Service
            && let Ok((namespace, name)) = object.namespace_and_name()
        {
            state.namespaces_in_use.note_watched(&namespace, &name.into());
        }
        let Applied { affected, key } = apply(&mut state, kind, object);
        drop(state);
        self.enqueue(affected);
        self.listing_may_be_needed.notify_one();
        key
    }

    /// Removes an object that a watch reported as deleted.
    pub(in crate::observe) fn remove(&self, kind: WatchedKind, key: &ObjectKey) {
        let affected = self.write().remove(kind, key);
        self.enqueue(affected);
    }

    /// Returns the keys of all objects of a kind, in one namespace or in all.
    pub(in crate::observe) fn keys(&self, kind: WatchedKind, scope: Option<&Namespace>) -> Vec<ObjectKey> {
        let mut keys = self.read().keys(kind);
        keys.retain(|key| scope.is_none_or(|scope| *scope == key.namespace));
        keys
    }

    /// Returns whether an object of the kind was left out for lack of memory, and may have room now.
    pub(in crate::observe) fn lacks_room(&self, kind: WatchedKind) -> bool {
        self.read().left_out.lacks_room(kind)
    }

    /// Waits until the Services of a namespace must be listed. The caller then lists them.
    pub(in crate::observe) async fn wait_for_listing(&self) -> ListingId {
        loop {
            let listing = self.write().namespaces_in_use.begin_listing();
            match listing {
                Some(listing) => return listing,
                None => self.listing_may_be_needed.notified().await,
            }
        }
    }

    /// Stores a Service of a listing.
    pub(in crate::observe) fn note_listed(&self, listing: &ListingId, object: &WatchedObject) {
        let Some(name) = object.metadata.name.as_deref().map(Arc::from) else { return };
        let mut state = self.write();
        if state.namespaces_in_use.note_listed(listing, &name) {
            // The workloads that wait for the listing are added to the queue when it is complete. An error is dropped,
            // because the watch reports it too.
            drop(apply(&mut state, WatchedKind::Service, object));
        }
    }

    /// Notes that a listing is complete, or that it failed.
    pub(in crate::observe) fn listing_ended(&self, listing: &ListingId, is_complete: bool) {
        let mut state = self.write();
        let waiting = if is_complete {
            state.services_listed(listing)
        } else {
            state.namespaces_in_use.listing_failed(listing);
            None
        };
        drop(state);
        self.enqueue(waiting.into_iter().flatten());
        self.listing_may_be_needed.notify_one();
    }
}

/// Stores an object in the state.
fn apply(state: &mut State, kind: WatchedKind, object: &WatchedObject) -> Applied {
    let key = match object.namespace_and_name() {
        Ok((namespace, name)) => ObjectKey::new(&namespace, name),
        Err(error) => return Applied { affected: Vec::new(), key: Err(error) },
    };
    match state.apply(kind, object) {
        Ok(Some(affected)) => Applied { affected, key: Ok(Some(key)) },
        // The object is not a workload now: another workload controls it, or it has finished.
        Ok(None) => Applied { affected: state.remove(kind, &key), key: Ok(None) },
        Err(Unreadable::ExceededLimit(exceeded)) => {
            let affected = state.leave_out(kind, &key, object.uid(), exceeded);
            Applied { affected, key: Ok(Some(key)) }
        }
        // The new version cannot be read, and the earlier version in the cache is outdated.
        Err(error) => Applied { affected: state.remove(kind, &key), key: Err(error) },
    }
}

#[cfg(test)]
impl Cache {
    /// Stores a workload as its watch does.
    pub(crate) fn insert_workload(&self, kind: certmint_contract::WorkloadKind, object: &WatchedObject) {
        self.upsert(WatchedKind::Workload(kind), object).unwrap();
        self.know_all_services();
    }

    /// Stores a pod as its watch does.
    pub(crate) fn insert_pod(&self, object: &WatchedObject) {
        self.upsert(WatchedKind::Pod, object).unwrap();
        self.know_all_services();
    }

    /// Stores a Secret as its watch does.
    pub(crate) fn insert_secret(&self, object: &WatchedObject) {
        self.upsert(WatchedKind::Secret, object).unwrap();
        self.know_all_services();
    }

    /// Removes a workload as its watch does.
    pub(crate) fn remove_workload(&self, kind: certmint_contract::WorkloadKind, namespace: &str, name: &str) {
        self.remove(WatchedKind::Workload(kind), &ObjectKey::new(&namespace.parse().unwrap(), name));
    }

    /// Limits the memory of all objects, in bytes.
    pub(in crate::observe) fn limit_to(&self, bytes: usize) {
        self.write().memory = crate::observe::memory_budget::MemoryBudget::new(bytes);
    }

    /// Marks the Services of all namespaces as known, as after a full list.
    fn know_all_services(&self) {
        let mut state = self.write();
        state.namespaces_in_use.full_list_begins(&None);
        state.namespaces_in_use.full_list_ended(&None);
    }
}
