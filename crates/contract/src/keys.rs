//! The keys Certmint reads and writes in `metadata`, all under one prefix.

/// The prefix of every annotation and label of ours.
pub const PREFIX: &str = "certmint.dev/";

/// Annotation on a workload, pod template or pod: `true` opts in.
pub const INJECT: &str = "certmint.dev/inject";
/// Annotation: how the certificate is delivered, see [`crate::annotations::Mode`].
pub const MODE: &str = "certmint.dev/mode";
/// Annotation: the Secret to write instead of `<workload>-certmint-tls`.
pub const SECRET_NAME: &str = "certmint.dev/secret-name";
/// Annotation: extra DNS names, comma separated. On a Secret: the names in the certificate.
pub const DNS_NAMES: &str = "certmint.dev/dns-names";
/// Annotation: how long a certificate is valid. On a Secret: what this one was issued for.
pub const DURATION: &str = "certmint.dev/duration";
/// Annotation: the kind of key. On a Secret: the kind this one has.
pub const KEY_ALGORITHM: &str = "certmint.dev/key-algorithm";
/// Annotation: where the app's containers find the files.
pub const MOUNT_PATH: &str = "certmint.dev/mount-path";
/// Annotation: which containers get the files.
pub const CONTAINERS: &str = "certmint.dev/containers";
/// Annotation: whether a sidecar keeps the files fresh.
pub const RENEW: &str = "certmint.dev/renew";
/// Annotation: how the app is told of a new certificate.
pub const RELOAD: &str = "certmint.dev/reload";
/// Annotation: the place of our container among the init containers.
pub const ORDER: &str = "certmint.dev/order";

/// What a user may write, in the order of the reference.
pub const USER_KEYS: [&str; 11] = [
    INJECT,
    MODE,
    SECRET_NAME,
    DNS_NAMES,
    DURATION,
    KEY_ALGORITHM,
    MOUNT_PATH,
    CONTAINERS,
    RENEW,
    RELOAD,
    ORDER,
];

/// Label, `true`: on a workload or bare pod that opted in and on every Secret we made. Watches select by it.
pub const MANAGED: &str = "certmint.dev/managed";
/// Label, `true`: on the pod template, so on its pods: they are meant to be injected.
///
/// It shares its text with [`INJECT`]; annotations and labels are separate maps. It is not
/// [`MANAGED`], because ReplicaSets inherit template labels and would flood the controller's watch.
pub const INJECT_LABEL: &str = INJECT;
/// Label, `true`: on a pod that was injected. A pod with [`INJECT_LABEL`] but without this one was missed.
pub const INJECTED: &str = "certmint.dev/injected";
/// Annotation on a pod: what injected it, for instance `certmint/0.1.0`.
pub const INJECTED_BY: &str = "certmint.dev/injected-by";
/// Annotation on a pod template: the user keys (without prefix, comma separated) that were copied from the
/// workload and go away with it. Keys that stood on the template itself are never listed.
pub const COPIED: &str = "certmint.dev/copied";
/// Annotation on a pod template and on a Secret: whose certificate it is, as `Deployment/payments`.
pub const WORKLOAD: &str = "certmint.dev/workload";

/// Annotation on a Secret: the SPIFFE id in the certificate.
pub const SPIFFE_ID: &str = "certmint.dev/spiffe-id";
/// Annotation on a Secret: the subject key identifier (hex) of the CA that signed.
pub const ISSUER: &str = "certmint.dev/issuer";
/// Annotation on a Secret: the subject key identifier (hex) of the root above that CA.
pub const ROOT: &str = "certmint.dev/root";
/// Annotation on a Secret: the certificate's serial number (hex).
pub const SERIAL: &str = "certmint.dev/serial";
/// Annotation on a Secret: RFC 3339.
pub const NOT_BEFORE: &str = "certmint.dev/not-before";
/// Annotation on a Secret: RFC 3339.
pub const NOT_AFTER: &str = "certmint.dev/not-after";
/// Annotation on a Secret: when the controller will renew, RFC 3339.
pub const RENEW_AT: &str = "certmint.dev/renew-at";
/// Annotation on a Secret: why this certificate was issued, in words.
pub const REASON: &str = "certmint.dev/reason";

/// What Certmint itself writes on workloads, templates and pods, beside the user's keys.
pub const OWN_KEYS: [&str; 3] = [INJECTED_BY, COPIED, WORKLOAD];
/// The value of every label of ours.
pub const TRUE: &str = "true";
