//! Keys of the annotations and labels that Certmint reads and writes. All have the same [`PREFIX`].

/// Prefix of every key that belongs to Certmint.
pub const PREFIX: &str = "certmint.dev/";

/// Opts a workload or a pod in, with the value [`TRUE`].
pub const INJECT: &str = "certmint.dev/inject";
/// Delivery of the certificate: see [`crate::annotations::Mode`].
pub const MODE: &str = "certmint.dev/mode";
/// Name of the Secret that the controller writes.
pub const SECRET_NAME: &str = "certmint.dev/secret-name";
/// DNS names in addition to the names of Services. On a Secret: all DNS names in the certificate.
pub const DNS_NAMES: &str = "certmint.dev/dns-names";
/// Lifetime of the certificate. On a Secret: the lifetime that its certificate was issued for.
pub const DURATION: &str = "certmint.dev/duration";
/// Algorithm of the private key. On a Secret: the algorithm of its key.
pub const KEY_ALGORITHM: &str = "certmint.dev/key-algorithm";
/// Directory in the application's containers that holds the files.
pub const MOUNT_PATH: &str = "certmint.dev/mount-path";
/// Containers that get the files.
pub const CONTAINERS: &str = "certmint.dev/containers";
/// Renewal in the running pod: see [`crate::annotations::Renew`].
pub const RENEW: &str = "certmint.dev/renew";
/// Hook that announces new files to the application: see [`crate::Reload`].
pub const RELOAD: &str = "certmint.dev/reload";
/// Position of the certmint-fetch container: see [`crate::annotations::InitPosition`].
pub const ORDER: &str = "certmint.dev/order";
/// Requests and limits of the certmint-fetch container: see [`crate::annotations::ResourceOverrides`].
pub const RESOURCES: &str = "certmint.dev/resources";

/// Annotations that a user may write, in the order of the reference page. [`crate::annotations::reference`] describes
/// each.
pub const USER_KEYS: [&str; 12] = [
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
    RESOURCES,
];

/// Label on every workload or standalone pod that opted in, and on every Secret that the controller created. Its value
/// is [`TRUE`]. The controller's watches select objects by this label.
pub const MANAGED: &str = "certmint.dev/managed";
/// Label on the pod template of a workload that opted in, and therefore on the pods of the workload. The webhook is
/// expected to inject these pods. The value of the label is [`TRUE`].
///
/// The label has the same key as the annotation [`INJECT`]; annotations and labels are separate maps. The template does
/// not carry [`MANAGED`], because ReplicaSets inherit the labels of the template: the controller's watch would then
/// deliver every old ReplicaSet of every Deployment.
pub const INJECT_LABEL: &str = INJECT;
/// Label on every injected pod. Its value is [`TRUE`]. A pod with [`INJECT_LABEL`] and without this label is a missed
/// injection.
pub const INJECTED: &str = "certmint.dev/injected";
/// Annotation on an injected pod: the version of the webhook that injected it, for instance `certmint/0.1.0`.
pub const INJECTED_BY: &str = "certmint.dev/injected-by";
/// Annotation on a pod template: the user keys that the webhook copied from the workload, comma separated and without
/// the prefix. Opting out removes these keys from the template. Keys that a user wrote on the template are not in the
/// list.
pub const COPIED: &str = "certmint.dev/copied";
/// Annotation on a pod template and on a Secret: the workload that the certificate belongs to, as
/// `Deployment/payments`.
pub const WORKLOAD: &str = "certmint.dev/workload";

/// Annotation on a Secret: the SPIFFE ID in the certificate.
pub const SPIFFE_ID: &str = "certmint.dev/spiffe-id";
/// Annotation on a Secret: the subject key identifier of the issuing CA, hexadecimal.
pub const ISSUER: &str = "certmint.dev/issuer";
/// Annotation on a Secret: the subject key identifier of the root above the issuing CA, hexadecimal.
pub const ROOT: &str = "certmint.dev/root";
/// Annotation on a Secret: the generation of the trust bundle in it. Secrets of version 0.1.0 lack it.
pub const TRUST_GENERATION: &str = "certmint.dev/trust-generation";
/// Annotation on a Secret: the serial number of the certificate, hexadecimal.
pub const SERIAL: &str = "certmint.dev/serial";
/// Annotation on a Secret: `notBefore` of the certificate, as RFC 3339.
pub const NOT_BEFORE: &str = "certmint.dev/not-before";
/// Annotation on a Secret: `notAfter` of the certificate, as RFC 3339.
pub const NOT_AFTER: &str = "certmint.dev/not-after";
/// Annotation on a Secret: the time at which the controller renews the certificate, as RFC 3339.
pub const RENEW_AT: &str = "certmint.dev/renew-at";
/// Annotation on a Secret: the reason for which the certificate was issued, in words.
pub const REASON: &str = "certmint.dev/reason";

/// Annotations that the webhook writes on workloads, templates and pods, in addition to copies of [`USER_KEYS`].
pub const KEYS_WRITTEN_BY_WEBHOOK: [&str; 3] = [INJECTED_BY, COPIED, WORKLOAD];
/// Value of every label of Certmint.
pub const TRUE: &str = "true";
