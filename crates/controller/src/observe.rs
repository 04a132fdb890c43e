//! Observes the cluster with watches and the cache that they fill. Both limit the memory that they use.
//!
//! A watch ([`watch()`]) reads objects through a [`Query`] as [`WatchedObject`]s and stores them in the [`Cache`]. The
//! cache keeps only the fields that decisions need, gives each namespace a share of the memory, and adds the workloads
//! that a change may affect to the work queue.

mod backoff;
mod cache;
mod keys;
mod kind;
mod left_out;
mod left_out_reporter;
mod memory_budget;
mod metadata;
mod namespaces_in_use;
mod object;
mod object_stream;
mod pod;
mod pod_index;
mod query;
mod service_index;
mod service_lists;
mod source;
mod standalone;
mod state;
mod watch;

pub(crate) use backoff::WatchBackoff;
pub(crate) use cache::{Cache, WorkloadView};
pub(crate) use keys::WorkloadKey;
pub(crate) use left_out_reporter::LeftOutReporter;
pub(crate) use object::{WatchedObject, controlling_owner, is_controlled_by_workload};
pub(crate) use query::Query;
pub(crate) use service_lists::list_services;
pub(crate) use source::{WatchSource, watch_sources};
pub(crate) use standalone::{StandaloneOutcome, StandalonePod, is_responsible_for};
pub(crate) use state::{NameSources, TrackedSecret};
pub(crate) use watch::watch;

#[cfg(test)]
mod tests;
