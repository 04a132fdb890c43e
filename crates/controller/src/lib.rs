//! Watches, executes plans, serves the issuance API.
//!
//! Every replica observes the cluster (`observe`), loads the CA (`ca`) and serves the issuance API
//! (`issuance`); the one that holds the Lease (`leadership`) also writes: Secrets as the planner decides
//! (`reconcile`), the CA, and Certmint's own certificates (`own_certificates`). It reports missed injection
//! (`missed_injection`), and makes injected pods that no workload serves workloads of their own (`standalone`).
//!
//! Invariant: nothing here decides what to issue; that is the planner's. Nothing here is kept on disk: a
//! restart reads everything again, and what was written says what was issued.
//!
//! # What it may do
//! Exactly these calls are made, so exactly these rights are needed:
//!
//! | where | resources | verbs |
//! |---|---|---|
//! | all namespaces, or those given | deployments, statefulsets, daemonsets, replicasets, jobs, cronjobs, pods | get list watch |
//! | same | services | list watch |
//! | same | secrets | get list watch create patch delete |
//! | same | events (events.k8s.io) | create |
//! | cluster | tokenreviews | create |
//! | cluster | the one mutatingwebhookconfiguration | get patch |
//! | own namespace | secrets | create; get patch on the CA's and the webhook's |
//! | own namespace | configmaps | create; get on the trust bundle; get patch on the last valid policy |
//! | own namespace | leases | create; get update on the one |
//! | own namespace | the one deployment | get |
//! | own namespace | events (events.k8s.io) | create |

mod api;
mod args;
mod ca;
mod clock;
mod events;
mod issuance;
mod leadership;
mod metrics;
mod missed_injection;
mod observe;
mod own_certificates;
mod planning;
mod policy_file;
mod queue;
mod random;
mod reconcile;
mod run;
mod secrets;
mod standalone;
mod supervisor;
mod survey;
#[cfg(test)]
mod testing;

pub use args::Args;
pub use metrics::every_metric;
pub use run::{RunError, run};
