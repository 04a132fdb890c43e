//! The keys Certmint reads and writes in `metadata`, all under one prefix.

/// The prefix of every annotation and label of ours.
pub const PREFIX: &str = "certmint.dev/";

/// An annotation that a user may write, as the reference tells of it, in Markdown.
#[derive(Clone, Copy, Debug)]
pub struct UserAnnotation {
    /// With the prefix.
    pub key: &'static str,
    /// What is allowed.
    pub values: &'static str,
    /// What counts without it.
    pub default: &'static str,
    /// Whom it concerns, pod or Secret, and what it is for.
    pub purpose: &'static str,
}

macro_rules! user_annotations {
    ($(
        #[doc = $purpose:literal]
        $(#[doc = $more:literal])*
        $name:ident = $key:literal { values: $values:literal, default: $default:literal }
    )+) => {
        $(
            #[doc = $purpose]
            $(#[doc = $more])*
            pub const $name: &str = $key;
        )+

        /// What a user may write, in the order of the reference.
        pub const USER_ANNOTATIONS: [UserAnnotation; USER_KEYS.len()] = [$(
            UserAnnotation { key: $name, values: $values, default: $default, purpose: $purpose.trim_ascii() },
        )+];

        /// The keys of [`USER_ANNOTATIONS`].
        pub const USER_KEYS: [&str; [$($name),+].len()] = [$($name),+];
    };
}

// The first line of each comment stands in the reference.
user_annotations! {
    /// Pod and Secret: opts in.
    INJECT = "certmint.dev/inject" {
        values: "`true`, `false`",
        default: "`false`"
    }
    /// Pod and Secret: how the certificate is delivered.
    ///
    /// See [`crate::annotations::Mode`].
    MODE = "certmint.dev/mode" {
        values: "`secret`; `pod` and `kubelet` are not supported yet",
        default: "`secret`"
    }
    /// Secret: which Secret is written.
    SECRET_NAME = "certmint.dev/secret-name" {
        values: "the name of a Secret",
        default: "`WORKLOAD-certmint-tls`"
    }
    /// Secret: further names in the certificate.
    ///
    /// On a Secret: all names in the certificate.
    DNS_NAMES = "certmint.dev/dns-names" {
        values: "names beyond those of the Services, with commas between: `pay.example.com,eu.example.com`",
        default: "none"
    }
    /// Secret: how long the certificate lives.
    ///
    /// On a Secret: what this one was issued for.
    DURATION = "certmint.dev/duration" {
        values: "whole numbers with units: `7d`, `24h`, `90m`, `1h30m`, `45s`",
        default: "the policy's `defaultDuration`, `24h`"
    }
    /// Secret: the kind of its key.
    ///
    /// On a Secret: the kind this one has.
    KEY_ALGORITHM = "certmint.dev/key-algorithm" {
        values: "`ecdsa-p256`, `ecdsa-p384`, `ed25519`, `rsa-2048`, `rsa-3072`, `rsa-4096`",
        default: "`ecdsa-p256`"
    }
    /// Pod: where the containers find the files.
    MOUNT_PATH = "certmint.dev/mount-path" {
        values: "an absolute path, not in `/dev`, `/proc` or `/sys`",
        default: "`/var/run/secrets/certmint.dev`"
    }
    /// Pod: which containers get them.
    CONTAINERS = "certmint.dev/containers" {
        values: "names of containers, with commas between: `app,proxy`",
        default: "all"
    }
    /// Pod: whether they are renewed in the pod.
    RENEW = "certmint.dev/renew" {
        values: "`true` (a sidecar stays and renews), `false` (once, at the pod's start)",
        default: "`true`"
    }
    /// Pod: how the app is told of new files; the certificate of an `https` hook is not checked, it is on the pod's own loopback.
    RELOAD = "certmint.dev/reload" {
        values: "`http://127.0.0.1:8080/reload`, `https://localhost:8443/reload`, `signal:SIGHUP:nginx` (`SIGUSR1` and `SIGUSR2` too)",
        default: "none"
    }
    /// Pod: the place of Certmint's container.
    ORDER = "certmint.dev/order" {
        values: "`first`, `last` among the pod's init containers",
        default: "`first`"
    }
    /// Pod: the requests and limits of Certmint's container; what is not named is left out.
    RESOURCES = "certmint.dev/resources" {
        values: "any of `requests.cpu=50m,requests.memory=64Mi,limits.cpu=100m,limits.memory=64Mi`, or `none`",
        default: "those of the chart, [fitted to the pod](pods.md#requests-and-limits)"
    }
}

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
