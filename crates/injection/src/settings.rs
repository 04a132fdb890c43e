//! The settings that are the same for all injected pods. The platform engineer sets them in the chart.

use certmint_contract::{Quantity, TrustBundle};

/// Settings of the injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionSettings {
    /// Image of certmint-fetch.
    pub image: String,
    /// Pull policy of the image: `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// Origin of the issuance API, `https://HOST:PORT`.
    pub api_url: String,
    /// Roots that verify the issuance API, and their generation.
    pub trust_bundle: TrustBundle,
    /// Requests and limits of the certmint-fetch container.
    pub resources: ResourceDefaults,
    /// Decision whether the webhook sets the user of the certmint-fetch container.
    pub run_as_user: RunAsUser,
    /// Seconds after which the startupProbe fails and reports the cause, if there is no certificate.
    pub deadline_seconds: u32,
    /// Version of the webhook, as in `certmint/0.1.0`.
    pub version: String,
}

/// Decision whether the webhook sets the user of the certmint-fetch container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunAsUser {
    /// The webhook sets the application's user if the pod's spec contains it, so that no other user can read the key.
    #[default]
    Set,
    /// The webhook sets no user. The platform chooses the user, as OpenShift does from the range of each namespace.
    /// Without such a platform, the pod or the image decides.
    Unset,
}

/// Requests and limits of the certmint-fetch container.
///
/// The defaults always contain requests: without them, a HorizontalPodAutoscaler cannot compute the utilization of the
/// pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceDefaults {
    /// CPU request.
    pub cpu_request: Quantity,
    /// Memory request.
    pub memory_request: Quantity,
    /// CPU limit, set only in a pod whose containers all have one, because a ResourceQuota on `limits.cpu` may then
    /// require it.
    pub cpu_limit: Quantity,
    /// Memory limit.
    pub memory_limit: Quantity,
    /// CPU request and limit in a pod of QoS class Guaranteed. In such a pod, the memory request equals the memory
    /// limit.
    pub guaranteed_cpu: Quantity,
}
