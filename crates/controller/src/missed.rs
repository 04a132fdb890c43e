//! What no webhook saw, because none was there: found, counted, and told where whoever looks after it looks.

mod pods;
mod workloads;

pub(crate) use pods::MissedPods;
pub(crate) use workloads::MissedWorkloads;
