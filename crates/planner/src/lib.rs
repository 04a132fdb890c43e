//! Decides what to issue, renew, refuse or remove; pure.
//!
//! [`plan`] goes from what was observed of one workload to what should happen, [`ca_plan`] does so for the
//! CA. Neither knows a Kubernetes client, a clock or a random number, and carrying out what they say makes
//! them say `Keep`.

pub mod ca;
mod hosts;
mod labels;
mod names;
mod order;
mod plan;
mod record;
mod secret;
mod spread;
mod terms;
mod workload;

pub use ca::{CaFacts, CaObserved, CaPlan, CaSecret, RotationReason, TrustBundle, ca_plan};
pub use hosts::{GRACE, Hosts, replica_labels};
pub use labels::Labels;
pub use names::{MAX_NAME_BYTES, MAX_NAMES};
pub use order::{IssuedFacts, Order, Reason};
pub use plan::{Decision, IssuerFacts, Observed, Plan, Refusal, Removal, plan};
pub use record::{Record, RecordError};
pub use secret::{Owner, SecretFacts};
pub use spread::SPREAD;
pub use workload::{PodHost, Pods, Replicas, RunningPod, Service, ServiceKind, Workload};
