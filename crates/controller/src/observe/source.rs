//! Describes the watches that fill the cache, and the query of each.

use certmint_contract::{Namespace, WorkloadKind, keys};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Client;
use kube::api::ApiResource;

use super::kind::WatchedKind;
use super::query::Query;
use crate::api;

/// Description of one watch.
#[derive(Clone, Debug)]
pub(crate) struct WatchSource {
    /// Kind of the watched objects.
    pub(super) kind: WatchedKind,
    /// Namespace of the watched objects; `None` for all namespaces.
    pub(super) namespace: Option<Namespace>,
    /// This watch starts when at most this number of watches have no complete first list.
    pub(super) starts_at_unsynced: usize,
}

/// Field selector of pods. A pod that finishes leaves the watch.
const UNFINISHED_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Returns all watches: one set for each of `namespaces`, or one set for the whole cluster if it is empty.
pub(crate) fn watch_sources(namespaces: &[Namespace]) -> Vec<WatchSource> {
    let scopes: Vec<_> = match namespaces {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let workloads = WorkloadKind::ALL.into_iter().map(WatchedKind::of_workload);
    let kinds = workloads.chain([WatchedKind::Service, WatchedKind::Secret]);
    // The cache keeps Services only of namespaces that have a workload or a Secret. So the watches of Services start
    // last, when only they have no complete list yet.
    let starts_at_unsynced = |kind| if kind == WatchedKind::Service { scopes.len() } else { usize::MAX };
    let source =
        |kind, namespace| WatchSource { kind, namespace, starts_at_unsynced: starts_at_unsynced(kind) };
    kinds.flat_map(|kind| scopes.iter().cloned().map(move |namespace| source(kind, namespace))).collect()
}

impl WatchSource {
    /// Returns the name of the watch in logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        self.kind.as_str()
    }

    /// Returns the query for the objects of this watch.
    pub(super) fn query(&self, client: &Client) -> Query {
        let query = |resource: &ApiResource| Query::new(client.clone(), resource, self.namespace.as_ref());
        match self.kind {
            // The controller never lists the content of Secrets: their metadata has all that decisions need.
            WatchedKind::Secret => {
                query(&ApiResource::erase::<Secret>(&())).metadata_only().with_labels(managed_selector())
            }
            WatchedKind::Service => query(&ApiResource::erase::<Service>(&())),
            WatchedKind::Pod => query(&api::resource(WorkloadKind::Pod))
                .with_labels(injected_selector())
                .with_fields(UNFINISHED_PODS),
            WatchedKind::Workload(kind) => query(&api::resource(kind)).with_labels(managed_selector()),
        }
    }
}

/// Returns the label selector of workloads that opted in and of Certmint's Secrets.
fn managed_selector() -> String {
    format!("{}={}", keys::MANAGED, keys::TRUE)
}

/// Returns the label selector of injected pods.
fn injected_selector() -> String {
    format!("{}={}", keys::INJECTED, keys::TRUE)
}
