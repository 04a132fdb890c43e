//! What is observed of the cluster: compact watches and the state they keep in memory.

mod alone;
mod bounded;
mod changes;
mod decode;
mod in_use;
mod index;
mod ledger;
mod left_out;
mod pieces;
mod pods;
mod services;
mod state;
mod tables;
mod watch;

pub(crate) use alone::{Alone, Standing, serves};
pub(crate) use decode::{Seen, controller, is_controlled_by_workload};
pub(crate) use index::WorkloadKey;
pub(crate) use left_out::LeftOutTeller;
pub(crate) use state::{Observed, View};
pub(crate) use tables::Known;
pub(crate) use watch::{Patience, Source, list_services, sources, watch};

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
