//! Admission webhook: answers the AdmissionReviews of the API server over TLS. It does not call the API server itself.
//!
//! Invariant: a review has no side effect in the cluster, and its answer contains no secret. With the same policy and
//! settings, the same review gets the same answer.

mod admission;
mod args;
mod endpoint;
mod metrics;
mod review;
mod run;
mod text;

pub use admission::{Admission, NotReady};
pub use args::{Args, PodArgs};
pub use endpoint::Endpoint;
pub use metrics::Metrics;
pub use run::{RunError, run};
