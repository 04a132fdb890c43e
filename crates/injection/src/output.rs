//! The Kubernetes objects that the webhook writes into pods. The files in `pod/` create them, and `patch.rs` encodes
//! them.
//!
//! serde writes these types straight into the patch. Building a tree of JSON values first would take most of the time
//! of a review (`cargo xtask bench review webhook`).

use std::borrow::Cow;

use serde::Serialize;

/// certmint-fetch container (`Container` of `core/v1`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FetchContainer<'a> {
    pub(crate) name: &'a str,
    pub(crate) image: &'a str,
    pub(crate) image_pull_policy: &'a str,
    pub(crate) command: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restart_policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) startup_probe: Option<Probe<'a>>,
    pub(crate) env: Vec<EnvVar<'a>>,
    pub(crate) resources: FetchResources<'a>,
    pub(crate) security_context: FetchSecurityContext<'a>,
    pub(crate) termination_message_path: &'a str,
    pub(crate) termination_message_policy: &'a str,
    pub(crate) volume_mounts: Vec<InjectedVolumeMount<'a>>,
}

/// Probe that runs a command in the container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Probe<'a> {
    pub(crate) exec: Exec<'a>,
    pub(crate) period_seconds: u32,
    pub(crate) timeout_seconds: u32,
    pub(crate) failure_threshold: i32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Exec<'a> {
    pub(crate) command: &'a [&'a str],
}

#[derive(Debug, Serialize)]
pub(crate) struct EnvVar<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Cow<'a, str>,
}

/// Resources of the certmint-fetch container.
#[derive(Debug, Serialize)]
pub(crate) struct FetchResources<'a> {
    #[serde(skip_serializing_if = "FetchAmounts::is_empty")]
    pub(crate) requests: FetchAmounts<'a>,
    #[serde(skip_serializing_if = "FetchAmounts::is_empty")]
    pub(crate) limits: FetchAmounts<'a>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct FetchAmounts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<&'a str>,
    #[serde(rename = "ephemeral-storage", skip_serializing_if = "Option::is_none")]
    pub(crate) ephemeral_storage: Option<&'a str>,
}

impl FetchAmounts<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FetchSecurityContext<'a> {
    pub(crate) allow_privilege_escalation: bool,
    pub(crate) capabilities: FetchCapabilities<'a>,
    pub(crate) read_only_root_filesystem: bool,
    pub(crate) run_as_non_root: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_as_user: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_as_group: Option<i64>,
    pub(crate) seccomp_profile: SeccompProfile<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FetchCapabilities<'a> {
    pub(crate) drop: &'a [&'a str],
}

#[derive(Debug, Serialize)]
pub(crate) struct SeccompProfile<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
}

/// Mount of an injected volume, in the certmint-fetch container or in a container of the application.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InjectedVolumeMount<'a> {
    pub(crate) name: &'a str,
    pub(crate) mount_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_only: Option<bool>,
}

/// Injected volume (`Volume` of `core/v1`) with exactly one source.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InjectedVolume<'a> {
    pub(crate) name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) empty_dir: Option<EmptyDir<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) projected: Option<Projected<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<SecretSource<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EmptyDir<'a> {
    pub(crate) medium: &'a str,
    pub(crate) size_limit: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Projected<'a> {
    pub(crate) sources: [Projection<'a>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Projection<'a> {
    ServiceAccountToken { audience: &'a str, expiration_seconds: u32, path: &'a str },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecretSource<'a> {
    pub(crate) secret_name: &'a str,
    pub(crate) optional: bool,
    pub(crate) default_mode: u32,
    pub(crate) items: [KeyToPath<'a>; 5],
}

#[derive(Debug, Serialize)]
pub(crate) struct KeyToPath<'a> {
    pub(crate) key: &'a str,
    pub(crate) path: &'a str,
}
