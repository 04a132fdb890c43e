//! One watch: list, then follow, for ever; whatever goes wrong is tried again.

use super::{
    changes::Query,
    decode::{Seen, UNFINISHED, Unreadable, injected_selector, managed_selector},
    index::Name,
    state::Observed,
    tables::What,
};
use crate::{api, metrics::Metrics};
use certmint_contract::{ErrorCode, Namespace, WorkloadKind};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::{
    Client,
    api::ApiResource,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event},
    },
};
use std::{
    collections::HashSet,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// What is watched, and where.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    what: What,
    /// One namespace, or all.
    namespace: Option<Namespace>,
    /// It begins when no more watches than that have yet to deliver their first list.
    begins_with: usize,
}

/// The waits between failures in a row: a watch that ran for a while starts again with the shortest.
pub(crate) struct Patience {
    next: Duration,
    last: Instant,
}

/// How long a named namespace may stay closed to us before everything else goes on without it: with a namespace goes
/// the RoleBinding in it, and the other namespaces must not wait for one that is gone.
const CLOSED_AFTER: Duration = Duration::from_secs(30);
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How soon all is listed again when something of it found no room: what took the room may be gone.
const ROOM_PACE: Duration = Duration::from_secs(300);
/// What the watch of Services is called.
const WATCH_OF_SERVICES: &str = "Service";
/// How soon Services are listed again after that failed.
const LISTING_PAUSE: Duration = Duration::from_secs(5);
/// Namespaces whose Services are listed at one time.
const MAX_LISTINGS: usize = 4;

/// Every watch there is to be: per namespace when some are named, else for the whole cluster.
pub(crate) fn sources(namespaces: &[Namespace]) -> Vec<Source> {
    let scopes: Vec<_> = match namespaces {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let whats = WorkloadKind::ALL.into_iter().map(What::of).chain([What::Service, What::Secret]);
    // Which Services are kept depends on everything else.
    let begins_with = |what| if what == What::Service { scopes.len() } else { usize::MAX };
    let source = |what, namespace| Source { what, namespace, begins_with: begins_with(what) };
    whats.flat_map(|what| scopes.iter().cloned().map(move |namespace| source(what, namespace))).collect()
}

impl Source {
    /// What the watch is called in logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self.what {
            What::Workload(kind) => kind.as_str(),
            What::Pod => WorkloadKind::Pod.as_str(),
            What::Service => WATCH_OF_SERVICES,
            What::Secret => "Secret",
        }
    }

    fn query(&self, client: &Client) -> Query {
        let query = |resource: &ApiResource| Query::new(client.clone(), resource, self.namespace.as_ref());
        match self.what {
            // Never the Secrets themselves: their metadata says all that decisions need.
            What::Secret => {
                query(&ApiResource::erase::<Secret>(&())).metadata_only().labelled(managed_selector())
            }
            What::Service => query(&ApiResource::erase::<Service>(&())),
            What::Pod => {
                query(&api::resource(WorkloadKind::Pod)).labelled(injected_selector()).with_fields(UNFINISHED)
            }
            What::Workload(kind) => query(&api::resource(kind)).labelled(managed_selector()),
        }
    }
}

/// Watches until dropped; never returns.
pub(crate) async fn watch(client: Client, source: Source, observed: Arc<Observed>, metrics: Metrics) {
    metrics.watching(source.name());
    observed.wait_for_lists_but(source.begins_with).await;
    let begun = tokio::time::Instant::now();
    let mut watched = Watched { source: &source, observed: &observed, metrics, first: true, begun };
    loop {
        tokio::select! {
            () = watched.follow(source.query(&client).changes()) => {}
            () = wait_for_want_of_room(source.what, &observed) => {}
        }
    }
}

/// Lists the Services of namespaces that come into use; never returns.
pub(crate) async fn list_services(client: Client, observed: Arc<Observed>, metrics: Metrics) {
    let mut listings = JoinSet::new();
    loop {
        tokio::select! {
            next = observed.next_to_list(), if listings.len() < MAX_LISTINGS => {
                listings.spawn(list_services_of(client.clone(), next, Arc::clone(&observed), metrics.clone()));
            }
            Some(ended) = listings.join_next() => {
                if let Err(panic) = ended.map_err(tokio::task::JoinError::into_panic) {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

async fn list_services_of(
    client: Client,
    listing: (Namespace, u64),
    observed: Arc<Observed>,
    metrics: Metrics,
) {
    let query = Query::new(client, &ApiResource::erase::<Service>(&()), Some(&listing.0));
    let listed = query.list(|seen| observed.listing_told(&listing, seen)).await;
    if let Err(error) = &listed {
        metrics.watch_failed(WATCH_OF_SERVICES);
        let (code, namespace) = (ErrorCode::Unavailable, &listing.0);
        tracing::warn!(%code, %namespace, %error, "the namespace's Services cannot be listed; its workloads wait, and this is tried again");
        tokio::time::sleep(LISTING_PAUSE).await;
    }
    observed.listing_ended(&listing, listed.is_ok());
}

/// Waits until all is to be listed again, because something found no room.
async fn wait_for_want_of_room(what: What, observed: &Observed) {
    loop {
        tokio::time::sleep(ROOM_PACE).await;
        if observed.wants_room(what) {
            return;
        }
    }
}

/// A watch, from one list to the next.
struct Watched<'a> {
    source: &'a Source,
    observed: &'a Observed,
    metrics: Metrics,
    /// The first list is not complete yet.
    first: bool,
    begun: tokio::time::Instant,
}

impl Watched<'_> {
    async fn follow(&mut self, changes: impl Stream<Item = watcher::Result<Event<Seen>>>) {
        let (what, scope) = (self.source.what, self.source.namespace.as_ref());
        let mut changes = pin!(changes.backoff(Patience::default()));
        let mut listed = HashSet::new();
        // The stream does not end.
        while let Some(change) = changes.next().await {
            match change {
                Ok(Event::Init) => {
                    listed.clear();
                    self.observed.list_begins(what, scope);
                }
                Ok(Event::InitApply(seen)) => listed.extend(self.upsert(&seen)),
                Ok(Event::InitDone) => {
                    self.observed.list_ended(what, scope, &std::mem::take(&mut listed));
                    if std::mem::take(&mut self.first) {
                        self.observed.first_list_done(None);
                    }
                }
                Ok(Event::Apply(seen)) => drop(self.upsert(&seen)),
                Ok(Event::Delete(seen)) => {
                    if let Ok((namespace, name)) = seen.namespace_and_name() {
                        self.observed.remove(what, &(namespace, name.into()));
                    }
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &watcher::Error) {
        let (code, watch) = (ErrorCode::Unavailable, self.source.name());
        self.metrics.watch_failed(watch);
        tracing::warn!(%code, watch, %error, "watch interrupted; it is tried again");
        if let Some(namespace) = &self.source.namespace
            && self.first
            && is_forbidden(error)
            && self.begun.elapsed() > CLOSED_AFTER
        {
            self.first = false;
            tracing::error!(
                code = %ErrorCode::MissingPermission,
                %namespace,
                watch,
                "this namespace cannot be read, and the others go on without it; if it is gone, take it from the chart's value namespaces, else run helm upgrade, which gives the rights in it again"
            );
            self.observed.first_list_done(Some(namespace));
        }
    }

    fn upsert(&self, seen: &Seen) -> Option<Name> {
        match self.observed.upsert(self.source.what, seen) {
            Ok(name) => name,
            Err(Unreadable::NoRoom(full)) => {
                if full.is_news {
                    let namespace = seen.metadata.namespace.as_deref().unwrap_or_default();
                    let code = ErrorCode::UnreadableObject;
                    tracing::warn!(%code, namespace, "the namespace has more injected pods than a controller keeps; the others are served by their workload only");
                }
                None
            }
            Err(error) => {
                let (namespace, name) = (&seen.metadata.namespace, &seen.metadata.name);
                let (code, kind) = (ErrorCode::UnreadableObject, self.source.name());
                tracing::warn!(%code, kind, ?namespace, ?name, %error, "passed over: it cannot be read; correct it");
                None
            }
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let watcher::Error::InitialListFailed(error) = error else { return false };
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

impl Default for Patience {
    fn default() -> Self {
        Self { next: SHORTEST_WAIT, last: Instant::now() }
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.last.elapsed() > LONGEST_WAIT * 6 {
            self.next = SHORTEST_WAIT;
        }
        self.last = Instant::now();
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST_WAIT);
        Some(wait)
    }
}

impl Backoff for Patience {
    /// Every list begins with an event that counts as a success, so a success says nothing: time does.
    fn reset(&mut self) {}
}
