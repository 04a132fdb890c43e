//! What no webhook saw, because none was there: found, counted, and told where whoever looks after it looks.

mod pods;
mod workloads;

pub(crate) use pods::Missed;
pub(crate) use workloads::Unnoticed;
