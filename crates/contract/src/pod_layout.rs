//! Layout of an injected pod: names, paths and environment variables that the webhook writes and certmint-fetch reads.

/// Name of the certmint-fetch container, an init container that keeps running as a native sidecar.
pub const FETCH_CONTAINER: &str = "certmint";
/// Path of the certmint-fetch binary in its image.
pub const FETCH_BINARY: &str = "/certmint-fetch";
/// Name of the tmpfs volume with the files, which the application's containers mount.
pub const TLS_VOLUME: &str = "certmint-tls";
/// Name of the volume with the projected token, which only the certmint-fetch container mounts.
pub const TOKEN_VOLUME: &str = "certmint-token";
/// Name of the optional volume with the workload's Secret, which only the certmint-fetch container mounts.
pub const SECRET_VOLUME: &str = "certmint-secret";

/// Mount path of the tmpfs volume in the certmint-fetch container, where it is writable.
pub const TLS_DIR: &str = "/certmint/tls";
/// Path of the token in the certmint-fetch container: the path at which the API server mounts the pod's default token.
/// The API server skips a container that has a mount there, so the certmint-fetch container never holds the default
/// token.
pub const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Mount path of the Secret in the certmint-fetch container.
pub const SECRET_DIR: &str = "/certmint/secret";
/// Default mount path of the files in the application's containers.
pub const DEFAULT_MOUNT_PATH: &str = "/var/run/secrets/certmint.dev";

/// File with the leaf and its issuing CAs, PEM. It is also a key of the Secret.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// File with the private key, PKCS#8 PEM. It is also a key of the Secret.
pub const KEY_FILE: &str = "tls.key";
/// File with the roots, PEM. It is also a key of the Secret.
pub const TRUST_BUNDLE_FILE: &str = "ca.crt";
/// File with the generation of the roots in [`TRUST_BUNDLE_FILE`], a decimal number. It is also a key of the Secret.
/// Secrets of earlier versions lack it. In the pod, the application's containers have no link to it.
pub const TRUST_GENERATION_FILE: &str = "trust-generation";
/// Key of the Secret with the workload that the certificate belongs to, as `Deployment/payments`. Secrets of earlier
/// versions lack it.
pub const WORKLOAD_FILE: &str = "workload";
/// File with key and chain, for applications that need one file. It exists only in the pod.
pub const COMBINED_FILE: &str = "tls.pem";

/// Prefix of every environment variable of Certmint.
pub const ENV_PREFIX: &str = "CERTMINT_";
/// Variable: origin of the issuance API, `https://HOST:PORT`.
pub const ENV_API: &str = "CERTMINT_API";
/// Variable: DNS domain of the cluster. With it, certmint-fetch resolves the name of the issuance API without a search
/// list.
pub const ENV_CLUSTER_DOMAIN: &str = "CERTMINT_CLUSTER_DOMAIN";
/// Variable: roots (PEM) with which certmint-fetch verifies the issuance API.
pub const ENV_TRUST_BUNDLE: &str = "CERTMINT_TRUST_BUNDLE";
/// Variable: generation of the roots in [`ENV_TRUST_BUNDLE`]. Pods that version 0.1.0 injected do not have it.
pub const ENV_TRUST_GENERATION: &str = "CERTMINT_TRUST_GENERATION";
/// Variable: file mode (permissions) of the published files, octal.
pub const ENV_FILE_MODE: &str = "CERTMINT_FILE_MODE";
/// Variable: reload hook, as in the annotation.
pub const ENV_RELOAD: &str = "CERTMINT_RELOAD";
/// Variable: path of the SPIFFE ID that the certificate must have, `/ns/NAMESPACE/sa/ACCOUNT`.
pub const ENV_IDENTITY: &str = "CERTMINT_IDENTITY";
/// Variable: workload of the pod, to which the Secret must belong. It is not set when the webhook does not know the
/// workload.
pub const ENV_WORKLOAD: &str = "CERTMINT_WORKLOAD";
/// Variable: seconds until `certmint-fetch wait` reports why there is no certificate yet.
pub const ENV_DEADLINE: &str = "CERTMINT_DEADLINE_SECONDS";

/// Default of [`ENV_DEADLINE`]. The kubelet writes an Event with the cause each time that `certmint-fetch wait` ends
/// without a certificate. A certificate usually arrives within seconds, so a pod that waits for half a minute needs an
/// Event.
pub const DEFAULT_DEADLINE_SECONDS: u32 = 30;

/// Annotation with the pod's volumes that the cluster autoscaler may delete together with the pod, comma separated
/// without spaces. The autoscaler does not remove a node with a pod that has another local volume.
pub const SAFE_TO_EVICT_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
