//! Watches that fill the cache: each lists its objects and then follows their changes, and retries after any failure.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use certmint_contract::ErrorCode;
use futures::{Stream, StreamExt};
use kube::Client;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use tokio::time::Instant;

use super::backoff::WatchBackoff;
use super::cache::Cache;
use super::keys::ObjectKey;
use super::kind::WatchedKind;
use super::object::{Unreadable, WatchedObject};
use super::source::WatchSource;
use crate::metrics::Metrics;

/// Time after which the controller continues without a namespace that it cannot read. When a namespace is deleted, its
/// RoleBinding is deleted too, so the controller cannot read the namespace. The other namespaces must not wait.
const UNREADABLE_AFTER: Duration = Duration::from_secs(30);
/// Time after which a watch lists again because an object had no room: other objects may be gone since then.
const RELIST_FOR_ROOM_INTERVAL: Duration = Duration::from_secs(300);

/// Watch with its progress.
struct Watch<'a> {
    source: &'a WatchSource,
    cache: &'a Cache,
    metrics: Metrics,
    /// The first list is not complete yet.
    is_first_list: bool,
    started: Instant,
}

/// Runs a watch until it is dropped; never returns.
pub(crate) async fn watch(client: Client, source: WatchSource, cache: Arc<Cache>, metrics: Metrics) {
    metrics.register_watch(source.name());
    cache.wait_for_unsynced(source.starts_at_unsynced).await;
    let mut watch =
        Watch { source: &source, cache: &cache, metrics, is_first_list: true, started: Instant::now() };
    loop {
        // A new stream begins with a new list.
        tokio::select! {
            () = watch.follow(source.query(&client).changes()) => {}
            () = wait_until_relist_for_room(source.kind, &cache) => {}
        }
    }
}

/// Waits until it is time to list again because an object had no room.
async fn wait_until_relist_for_room(kind: WatchedKind, cache: &Cache) {
    loop {
        tokio::time::sleep(RELIST_FOR_ROOM_INTERVAL).await;
        if cache.lacks_room(kind) {
            return;
        }
    }
}

impl Watch<'_> {
    async fn follow(&mut self, changes: impl Stream<Item = watcher::Result<Event<WatchedObject>>>) {
        let (kind, scope) = (self.source.kind, self.source.namespace.as_ref());
        let mut changes = pin!(changes.backoff(WatchBackoff::default()));
        let mut listed = HashSet::new();
        // The stream does not end.
        while let Some(change) = changes.next().await {
            match change {
                Ok(Event::Init) => {
                    listed.clear();
                    self.cache.full_list_begins(kind, scope);
                }
                Ok(Event::InitApply(object)) => listed.extend(self.upsert(&object)),
                Ok(Event::InitDone) => {
                    self.cache.full_list_ended(kind, scope, &std::mem::take(&mut listed));
                    if std::mem::take(&mut self.is_first_list) {
                        self.cache.first_list_done(None);
                    }
                }
                Ok(Event::Apply(object)) => drop(self.upsert(&object)),
                Ok(Event::Delete(object)) => {
                    if let Ok((namespace, name)) = object.namespace_and_name() {
                        self.cache.remove(kind, &ObjectKey::new(&namespace, name));
                    }
                }
                Err(error) => self.note_failure(&error),
            }
        }
    }

    fn note_failure(&mut self, error: &watcher::Error) {
        let (code, watch) = (ErrorCode::Unavailable, self.source.name());
        self.metrics.count_watch_failure(watch);
        tracing::warn!(%code, watch, %error, "watch interrupted; the controller retries");
        if let Some(namespace) = &self.source.namespace
            && self.is_first_list
            && is_forbidden(error)
            && self.started.elapsed() > UNREADABLE_AFTER
        {
            self.is_first_list = false;
            tracing::error!(
                code = %ErrorCode::MissingPermission,
                %namespace,
                watch,
                "the controller cannot read this namespace and continues without it; if the namespace is gone, remove it from the chart's value namespaces, else run helm upgrade, which grants the permissions in it again"
            );
            self.cache.first_list_done(Some(namespace));
        }
    }

    /// Stores an object. Returns its key, or `None` when it is skipped, is not a workload, or has finished.
    fn upsert(&self, object: &WatchedObject) -> Option<ObjectKey> {
        match self.cache.upsert(self.source.kind, object) {
            Ok(key) => key,
            Err(Unreadable::TooManyPods(full)) => {
                if full.is_first {
                    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                    let code = ErrorCode::UnreadableObject;
                    tracing::warn!(%code, namespace, "the namespace has more injected pods than a controller keeps; the other pods cannot have certificates of their own");
                }
                None
            }
            Err(error) => {
                let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
                let (code, kind) = (ErrorCode::UnreadableObject, self.source.name());
                tracing::warn!(%code, kind, ?namespace, ?name, %error, "skipped an object that cannot be read; correct it");
                None
            }
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let watcher::Error::InitialListFailed(error) = error else { return false };
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
