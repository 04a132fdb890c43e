//! Reasons why an object is skipped.

use crate::observe::metadata::{MAX_LABEL_BYTES, MAX_LABELS};
use crate::observe::pod_index::TooManyPods;

/// Reason why an object is skipped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The name or the namespace is missing or not valid.
    #[error("its name: {0}")]
    Name(String),
    /// The spec does not have the shape of this API version.
    #[error("its spec: {0}")]
    Spec(#[from] serde_json::Error),
    /// The status does not have the shape of this API version.
    #[error("its status: {0}")]
    Status(#[source] serde_json::Error),
    /// The namespace has too many injected pods.
    #[error(transparent)]
    TooManyPods(#[from] TooManyPods),
    /// The object exceeds a size limit.
    #[error(transparent)]
    ExceededLimit(#[from] ExceededLimit),
}

/// Size limit that an object, or all objects of its namespace, exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExceededLimit {
    /// The object's text is too long. The value is its length in bytes.
    #[error("it has {0} bytes, which is more than Certmint reads of one object; make it smaller")]
    Object(usize),
    /// A Service's selector is too large.
    #[error(
        "its selector has more than {MAX_LABELS} labels or {MAX_LABEL_BYTES} bytes, so no certificate gets its names; select by fewer labels"
    )]
    Selector,
    /// The objects of the namespace take more memory than its share.
    #[error(
        "its namespace has more Services, workloads and Secrets for Certmint than fit into its share of the controller's memory; remove unused ones, or raise controller.resources.limits.memory"
    )]
    Namespace,
}
