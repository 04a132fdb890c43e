//! What an injected pod looks like: names, paths and variables that injection writes and the fetcher reads.

/// The init container that is also the sidecar.
pub const CONTAINER: &str = "certmint";
/// The fetcher's binary in its image.
pub const FETCH_BINARY: &str = "/certmint-fetch";
/// The tmpfs volume that the app's containers see.
pub const TLS_VOLUME: &str = "certmint-tls";
/// The projected token's volume; our container only.
pub const TOKEN_VOLUME: &str = "certmint-token";
/// The workload's Secret, optional; our container only.
pub const SECRET_VOLUME: &str = "certmint-secret";

/// Where our container has the tmpfs volume, writable.
pub const TLS_DIR: &str = "/certmint/tls";
/// Where our container has its token: where the API server would put the pod's own, which speaks for the app
/// everywhere. It leaves out a container that mounts something there, so ours never holds that one.
pub const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Where our container has the Secret, when there is one.
pub const SECRET_DIR: &str = "/certmint/secret";
/// Where the app's containers find the files unless they ask for another place.
pub const DEFAULT_MOUNT_PATH: &str = "/var/run/secrets/certmint.dev";

/// The leaf and its issuing CAs, PEM; a key of the Secret too.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// The private key, PKCS#8 PEM; a key of the Secret too.
pub const KEY_FILE: &str = "tls.key";
/// The roots, PEM; a key of the Secret too.
pub const TRUST_BUNDLE_FILE: &str = "ca.crt";
/// Whose certificate it is, as `Deployment/payments`; a key of the Secret only. Secrets of earlier versions lack it.
pub const WORKLOAD_FILE: &str = "workload";
/// Key and chain in one file, for those who want one; only in the pod.
pub const COMBINED_FILE: &str = "tls.pem";

/// What the name of every variable of ours begins with.
pub const ENV_PREFIX: &str = "CERTMINT_";
/// Variable: the issuance API's origin, `https://HOST:PORT`.
pub const ENV_API: &str = "CERTMINT_API";
/// Variable: the cluster's DNS domain. With it the issuance API's name needs no search list.
pub const ENV_CLUSTER_DOMAIN: &str = "CERTMINT_CLUSTER_DOMAIN";
/// Variable: the roots (PEM) that the issuance API is checked against.
pub const ENV_TRUST_BUNDLE: &str = "CERTMINT_TRUST_BUNDLE";
/// Variable: the octal mode of the published files.
pub const ENV_FILE_MODE: &str = "CERTMINT_FILE_MODE";
/// Variable: the reload hook, as in the annotation.
pub const ENV_RELOAD: &str = "CERTMINT_RELOAD";
/// Variable: the SPIFFE id's path that the bundle must carry, `/ns/NAMESPACE/sa/ACCOUNT`.
pub const ENV_IDENTITY: &str = "CERTMINT_IDENTITY";
/// Variable: the pod's workload, which the Secret must be made for. It is not set while that is not known.
pub const ENV_WORKLOAD: &str = "CERTMINT_WORKLOAD";
/// Variable: seconds until `wait` tells why there is no certificate yet.
pub const ENV_DEADLINE: &str = "CERTMINT_DEADLINE_SECONDS";

/// The kubelet writes an Event with the reason each time that `wait` ends in vain. A certificate usually comes within
/// seconds, so that a pod that still waits after half a minute is worth an Event.
pub const DEFAULT_DEADLINE_SECONDS: u32 = 30;

/// The annotation in which a pod names those of its volumes that the cluster autoscaler may lose with the pod, with commas
/// between them and no spaces. A pod with another local volume keeps its node from being removed.
pub const SAFE_TO_EVICT_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
