//! What the platform team decides about injected containers, the same for every pod.

use certmint_contract::Quantity;

/// How injected pods find their image and the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionSettings {
    /// The fetcher's image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// The issuance API's origin, `https://HOST:PORT`.
    pub api_url: String,
    /// The roots that the issuance API is checked against, PEM.
    pub trust_bundle: String,
    /// What the injected container asks for.
    pub resources: ResourceDefaults,
    /// Whose user the injected container runs as.
    pub run_as_user: RunAsUser,
    /// Seconds until a pod without a certificate is given up.
    pub deadline_seconds: u32,
    /// Our own version, as in `certmint/0.1.0`.
    pub version: String,
}

/// Who decides about the user of the injected container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunAsUser {
    /// The webhook: the app's user where the pod tells it, so that nobody else can read the key.
    #[default]
    Set,
    /// The platform, as OpenShift does from each namespace's range; else the pod, else the image.
    Unset,
}

/// Requests and limits of the injected container. Requests are always there: without them a
/// HorizontalPodAutoscaler on utilization cannot compute anything for the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceDefaults {
    /// CPU request.
    pub cpu_request: Quantity,
    /// Memory request.
    pub memory_request: Quantity,
    /// CPU limit, in a pod each of whose containers has one: where a quota on `limits.cpu` makes it a duty.
    pub cpu_limit: Quantity,
    /// Memory limit.
    pub memory_limit: Quantity,
    /// CPU request and limit in a pod of QoS class Guaranteed, whose memory request is then the limit.
    pub guaranteed_cpu: Quantity,
}
