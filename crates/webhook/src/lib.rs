//! The admission webhook: AdmissionReview in, AdmissionReview out, over TLS, without any API access.
//!
//! Invariant: a review causes no side effect and returns no secret; the same review gets the same answer.

mod admission;
mod args;
mod endpoint;
mod metrics;
mod review;
mod run;

pub use admission::{Admission, NotReady};
pub use args::{Args, PodArgs};
pub use endpoint::Endpoint;
pub use metrics::Metrics;
pub use run::{RunError, run};
