//! One watch: list, then follow, for ever; whatever goes wrong is tried again.

use super::{
    decode::{Seen, UNFINISHED, Unreadable, injected_selector, managed_selector},
    index::Name,
    state::Observed,
    tables::What,
};
use crate::{api, metrics::Metrics};
use certmint_contract::{ErrorCode, Namespace, WorkloadKind};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::{
    Api, Client,
    api::{ApiResource, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use std::{
    collections::HashSet,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

/// What is watched, and where.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    what: What,
    /// One namespace, or all.
    namespace: Option<Namespace>,
}

/// The waits between failures in a row: a watch that ran for a while starts again with the shortest.
pub(crate) struct Patience {
    next: Duration,
    last: Instant,
}

/// After this time the API server ends a watch, which then goes on where it was. A watch of which nothing was
/// heard for that long, not even its end, is given up five seconds later: its connection is dead.
const WATCH_SECONDS: u32 = 60;
/// Objects in one piece of a list: each may be a MiB, and all of a piece are in memory at once.
const PAGE: u32 = 50;
/// How long a named namespace may stay closed to us before everything else goes on without it: with a namespace goes
/// the RoleBinding in it, and the other namespaces must not wait for one that is gone.
const CLOSED_AFTER: Duration = Duration::from_secs(30);
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Every watch there is to be: per namespace when some are named, else for the whole cluster.
pub(crate) fn sources(namespaces: &[Namespace]) -> Vec<Source> {
    let of_kind = |kind| match kind {
        WorkloadKind::Pod => What::Pod,
        kind => What::Workload(kind),
    };
    let whats = WorkloadKind::ALL.into_iter().map(of_kind).chain([What::Service, What::Secret]);
    let scopes: Vec<_> = match namespaces {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    whats.flat_map(|what| scopes.iter().cloned().map(move |namespace| Source { what, namespace })).collect()
}

impl Source {
    /// What the watch is called in logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self.what {
            What::Workload(kind) => kind.as_str(),
            What::Pod => WorkloadKind::Pod.as_str(),
            What::Service => "Service",
            What::Secret => "Secret",
        }
    }
}

/// Watches until dropped; never returns.
pub(crate) async fn watch(client: Client, source: Source, observed: Arc<Observed>, metrics: Metrics) {
    metrics.watching(source.name());
    match source.what {
        // Never the Secrets themselves: their metadata says all that decisions need.
        What::Secret => {
            let events = watcher(metadata(&client, &source), selected()).map_ok(into_seen);
            follow(events, &source, &observed, &metrics).await;
        }
        What::Service => {
            let events = watcher(dynamic(&client, &source, &ApiResource::erase::<Service>(&())), all());
            follow(events, &source, &observed, &metrics).await;
        }
        What::Pod => {
            let config = all().labels(&injected_selector()).fields(UNFINISHED);
            let resource = api::resource(WorkloadKind::Pod);
            follow(watcher(dynamic(&client, &source, &resource), config), &source, &observed, &metrics).await;
        }
        What::Workload(kind) => {
            let events = watcher(dynamic(&client, &source, &api::resource(kind)), selected());
            follow(events, &source, &observed, &metrics).await;
        }
    }
}

async fn follow(
    events: impl Stream<Item = watcher::Result<Event<Seen>>>,
    source: &Source,
    observed: &Observed,
    metrics: &Metrics,
) {
    let mut events = pin!(events.backoff(Patience::default()));
    let mut listed = HashSet::new();
    let mut first = true;
    let begun = tokio::time::Instant::now();
    // A watcher's stream does not end.
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(seen)) => listed.extend(upsert(source, observed, &seen)),
            Ok(Event::InitDone) => {
                forget_unlisted(source, observed, &std::mem::take(&mut listed));
                if std::mem::take(&mut first) {
                    observed.first_list_done(None);
                }
            }
            Ok(Event::Apply(seen)) => drop(upsert(source, observed, &seen)),
            Ok(Event::Delete(seen)) => {
                if let Ok((namespace, name)) = seen.namespace_and_name() {
                    observed.remove(source.what, &(namespace, name.into()));
                }
            }
            Err(error) => {
                metrics.watch_failed(source.name());
                let code = ErrorCode::Unavailable;
                tracing::warn!(%code, watch = source.name(), %error, "watch interrupted; it is tried again");
                if let Some(namespace) = &source.namespace
                    && first
                    && is_forbidden(&error)
                    && begun.elapsed() > CLOSED_AFTER
                {
                    first = false;
                    tracing::error!(
                        code = %ErrorCode::MissingPermission,
                        %namespace,
                        watch = source.name(),
                        "this namespace cannot be read, and the others go on without it; if it is gone, take it from the chart's value namespaces, else run helm upgrade, which gives the rights in it again"
                    );
                    observed.first_list_done(Some(namespace));
                }
            }
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let watcher::Error::InitialListFailed(error) = error else { return false };
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

fn upsert(source: &Source, observed: &Observed, seen: &Seen) -> Option<Name> {
    match observed.upsert(source.what, seen) {
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
            let code = ErrorCode::UnreadableObject;
            tracing::warn!(%code, kind = source.name(), ?namespace, ?name, %error, "passed over: it cannot be read; correct it");
            None
        }
    }
}

fn forget_unlisted(source: &Source, observed: &Observed, listed: &HashSet<Name>) {
    for name in observed.names(source.what, source.namespace.as_ref()) {
        if !listed.contains(&name) {
            observed.remove(source.what, &name);
        }
    }
}

fn into_seen(event: Event<PartialObjectMeta<Secret>>) -> Event<Seen> {
    match event {
        Event::Apply(object) => Event::Apply(object.into()),
        Event::Delete(object) => Event::Delete(object.into()),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(object.into()),
        Event::InitDone => Event::InitDone,
    }
}

fn selected() -> watcher::Config {
    all().labels(&managed_selector())
}

fn all() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
}

fn metadata(client: &Client, source: &Source) -> Api<PartialObjectMeta<Secret>> {
    match &source.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace.as_str()),
        None => Api::all(client.clone()),
    }
}

fn dynamic(client: &Client, source: &Source, resource: &ApiResource) -> Api<Seen> {
    match &source.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace.as_str(), resource),
        None => Api::all_with(client.clone(), resource),
    }
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
