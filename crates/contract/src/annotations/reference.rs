//! Texts of the reference page on annotations: one row for each annotation that a user may write.
//!
//! `cargo xtask reference --write` copies the rows to `docs/src/reference/annotations.md`. The constants of the keys
//! are in [`crate::keys`].

use crate::keys;

/// Row of the reference page. The texts are Markdown.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceEntry {
    /// The key with its prefix.
    pub key: &'static str,
    /// The values that are allowed.
    pub values: &'static str,
    /// The value that applies when the annotation is missing.
    pub default: &'static str,
    /// The object that the annotation concerns (pod, Secret or both), and its purpose.
    pub purpose: &'static str,
}

/// Rows of the reference page, in the order of [`keys::USER_KEYS`].
pub const REFERENCE: [ReferenceEntry; keys::USER_KEYS.len()] = [
    ReferenceEntry {
        key: keys::INJECT,
        values: "`true`, `false`",
        default: "`false`",
        purpose: "Pod and Secret: opts the workload in.",
    },
    ReferenceEntry {
        key: keys::MODE,
        values: "`secret`; `pod` and `kubelet` are not supported yet",
        default: "`secret`",
        purpose: "Pod and Secret: the way in which the pod gets its certificate.",
    },
    ReferenceEntry {
        key: keys::SECRET_NAME,
        values: "the name of a Secret",
        default: "`WORKLOAD-certmint-tls`",
        purpose: "Secret: its name.",
    },
    ReferenceEntry {
        key: keys::DNS_NAMES,
        values: "DNS names, separated by commas: `pay.example.com,eu.example.com`",
        default: "none",
        purpose: "Secret: DNS names in the certificate in addition to those of the Services.",
    },
    ReferenceEntry {
        key: keys::DURATION,
        values: "whole numbers with units: `7d`, `24h`, `90m`, `1h30m`, `45s`",
        default: "the policy's `defaultDuration`, `24h`",
        purpose: "Secret: lifetime of the certificate.",
    },
    ReferenceEntry {
        key: keys::KEY_ALGORITHM,
        values: "`ecdsa-p256`, `ecdsa-p384`, `ed25519`, `rsa-2048`, `rsa-3072`, `rsa-4096`",
        default: "`ecdsa-p256`",
        purpose: "Secret: algorithm of the private key.",
    },
    ReferenceEntry {
        key: keys::MOUNT_PATH,
        values: "an absolute path, not in `/dev`, `/proc` or `/sys`",
        default: "`/var/run/secrets/certmint.dev`",
        purpose: "Pod: directory in the containers that holds the files.",
    },
    ReferenceEntry {
        key: keys::CONTAINERS,
        values: "names of containers, separated by commas: `app,proxy`",
        default: "all containers",
        purpose: "Pod: containers that get the files.",
    },
    ReferenceEntry {
        key: keys::RENEW,
        values: "`true` (certmint-fetch keeps running and renews), `false` (certmint-fetch writes the files once, when the pod starts)",
        default: "`true`",
        purpose: "Pod: renewal of the files in the running pod.",
    },
    ReferenceEntry {
        key: keys::RELOAD,
        values: "`http://127.0.0.1:8080/reload`, `https://localhost:8443/reload`, `signal:SIGHUP:nginx` (`SIGUSR1` and `SIGUSR2` too)",
        default: "none",
        purpose: "Pod: hook that announces new files to the application. The certificate of an `https` hook is not verified, because the hook is on the pod's own loopback address.",
    },
    ReferenceEntry {
        key: keys::ORDER,
        values: "`first`, `last`: position among the pod's init containers",
        default: "`first`",
        purpose: "Pod: position of the certmint-fetch container.",
    },
    ReferenceEntry {
        key: keys::RESOURCES,
        values: "any of `requests.cpu=50m,requests.memory=64Mi,limits.cpu=100m,limits.memory=64Mi`, or `none`",
        default: "those of the chart, [adjusted to the pod](pods.md#requests-and-limits)",
        purpose: "Pod: requests and limits of the certmint-fetch container. The container has only those that the annotation lists.",
    },
];
