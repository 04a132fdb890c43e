//! Decides which certificates to issue, reissue or refuse, and which Secrets to remove.
//!
//! [`plan()`] decides for one workload, on the basis of [`Observed`] facts. [`plan_ca()`] decides for the CA.
//! [`desired_certificate()`] says which certificate a workload should have. The crate is pure: it uses no Kubernetes
//! client, clock or random numbers. After the controller has issued or reissued a certificate, the next plan for the
//! workload is [`Plan::Keep`].

pub mod ca;
mod check;
mod desired;
mod hosts;
mod labels;
mod names;
mod order;
mod plan;
mod record;
mod secret;
mod spread;
mod workload;

pub use ca::{
    CaFacts, CaObserved, CaPlan, CaSecret, IssuingCaRequest, PublishedTrust, RotationReason, plan_ca,
};
pub use desired::{DesiredCertificate, ExplicitSettings, LeftOutHosts, desired_certificate};
pub use hosts::{GRACE_PERIOD, Hosts, replica_labels};
pub use labels::Labels;
pub use names::{MAX_NAME_BYTES, MAX_NAMES};
pub use order::{CertificateOrder, IssueReason, IssuedFacts};
pub use plan::{Decision, IssuerFacts, Observed, Plan, Refusal, Removal, plan};
pub use record::{Record, RecordError};
pub use secret::{Owner, SecretFacts};
pub use spread::SPREAD_WINDOW;
pub use workload::{PodHost, Pods, Replicas, RunningPod, Service, ServiceKind, Workload};
