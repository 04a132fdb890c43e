//! The controller: watches workloads, issues certificates, and serves the issuance API.
//!
//! Every replica observes the cluster (`observe`), loads the CA (`ca`) and serves the issuance API (`issuance`). The
//! replica that holds the Lease is the leader (`leadership`). Only the leader writes the Secrets of workloads as the
//! planner decides (`reconcile`), the CA, the webhook's certificate and `caBundle` (`own_certificates`), and the last
//! valid policy (`policy_file`). Every replica writes Events. `issuer` signs all certificates. `missed_injection`
//! reports missed injections. An injected pod is a workload of its own (`standalone`) if no other workload has a
//! certificate for it.
//!
//! Invariants: the planner decides what to issue, not this crate. The controller keeps nothing on disk. After a restart
//! it reads everything again, and the annotations of the Secrets are the only record of what was issued.
//!
//! # Permissions
//! The controller makes exactly these calls, so it needs exactly these permissions:
//!
//! | where | resources | verbs |
//! |---|---|---|
//! | all namespaces, or those in the settings | deployments, statefulsets, daemonsets, replicasets, jobs, cronjobs, pods | get list watch |
//! | same | services | list watch |
//! | same | secrets | get list watch create patch delete |
//! | same | events (events.k8s.io) | create |
//! | cluster | tokenreviews | create |
//! | cluster | Certmint's mutatingwebhookconfiguration | get patch |
//! | own namespace | secrets | create; get patch on the CA's and the webhook's |
//! | own namespace | configmaps | create; get on the trust bundle; get patch on the last valid policy |
//! | own namespace | leases | create; get update on the controller's |
//! | own namespace | the controller's deployment | get |
//! | own namespace | events (events.k8s.io) | create |

mod api;
mod args;
mod ca;
mod clock;
mod config_maps;
mod decisions;
mod events;
mod health;
mod issuance;
mod issuer;
mod leadership;
mod metrics;
mod missed_injection;
mod observe;
mod own_certificates;
mod policy_file;
mod queue;
mod random;
mod reconcile;
mod run;
mod secrets;
mod signing_error;
mod standalone;
mod supervisor;
#[cfg(test)]
mod testing;

pub use args::Args;
pub use metrics::every_metric;
pub use run::{RunError, run};
