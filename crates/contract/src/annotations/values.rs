//! Types of the values of annotations: mode, renewal, position, containers and mount path.

use std::fmt;
use std::str::FromStr;

use super::AnnotationError;
use crate::keys;
use crate::pod_layout::DEFAULT_MOUNT_PATH;
use crate::spelling::{as_object_name, excerpt, hint, not_one_of};

/// Value of `certmint.dev/mode`: the delivery of the certificate.
///
/// [`super::parse`] rejects the reserved values `pod` and `kubelet`, which do not exist yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `secret`: the controller writes one key for each workload into a Secret.
    #[default]
    Secret,
}

/// Value of `certmint.dev/renew`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// `true`: certmint-fetch keeps running as a native sidecar and renews the files.
    #[default]
    Sidecar,
    /// `false`: certmint-fetch writes the files once and exits.
    Never,
}

/// Value of `certmint.dev/order`: the position of the certmint-fetch container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitPosition {
    /// `first`: before the pod's own init containers, so that they have the certificate.
    #[default]
    First,
    /// `last`: after the pod's own init containers.
    Last,
}

/// Value of `certmint.dev/containers`: the containers that get the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Containers {
    /// Every container, including init containers.
    #[default]
    All,
    /// The containers with these names.
    Named(Vec<Box<str>>),
}

/// Value of `certmint.dev/mount-path`: an absolute path inside a container, without `..`, `:` or an empty segment. It
/// is not `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPath(Box<str>);

impl MountPath {
    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for MountPath {
    fn default() -> Self {
        Self(DEFAULT_MOUNT_PATH.into())
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses the value of `certmint.dev/mode`.
///
/// For a mode that does not exist yet, returns an error with its own error code. So the other modules handle only modes
/// that exist.
pub(super) fn parse_mode(text: &str) -> Result<Mode, AnnotationError> {
    match text {
        "secret" => Ok(Mode::Secret),
        "pod" => Err(AnnotationError::UnsupportedMode("pod")),
        "kubelet" => Err(AnnotationError::UnsupportedMode("kubelet")),
        other => Err(AnnotationError::invalid(keys::MODE, &not_one_of(other, &["secret", "pod", "kubelet"]))),
    }
}

impl FromStr for InitPosition {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "first" => Ok(Self::First),
            "last" => Ok(Self::Last),
            other => Err(not_one_of(other, &["first", "last"])),
        }
    }
}

impl FromStr for Containers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut names: Vec<Box<str>> = Vec::new();
        for name in text.split(',').map(str::trim) {
            if !names.iter().any(|known| **known == *name) {
                names.push(name.into());
            }
            if names.len() > super::MAX_LIST_ENTRIES {
                return Err(format!("more than {} names; write fewer", super::MAX_LIST_ENTRIES));
            }
        }
        // The name of a container has the same syntax as the name of a namespace: an RFC 1123 label.
        let is_name = |name: &str| name.parse::<crate::Namespace>().is_ok();
        match names.iter().find(|name| !is_name(name)) {
            Some(name) => {
                let suggestion = Some(as_object_name(name)).filter(|suggestion| is_name(suggestion));
                Err(format!(
                    "\"{}\" is not a container name{}; write names like app,proxy",
                    excerpt(name),
                    hint(suggestion)
                ))
            }
            None => Ok(Self::Named(names)),
        }
    }
}

impl FromStr for MountPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        if !is_mount_path(trimmed) {
            let suggestion =
                format!("/{}", excerpt(trimmed).trim().trim_start_matches('/').replace("//", "/"));
            return Err(format!(
                "\"{}\" is not a mount path{}; write an absolute path without \"..\" or ':', like {DEFAULT_MOUNT_PATH}",
                excerpt(text),
                hint(Some(suggestion).filter(|suggestion| is_mount_path(suggestion)))
            ));
        }
        match KERNEL_PATHS.iter().find(|path| is_within(trimmed, path)) {
            Some(path) => Err(format!(
                "\"{}\" is in {path}, a file system of the kernel; write another path, like {DEFAULT_MOUNT_PATH}",
                excerpt(text)
            )),
            None => Ok(Self(trimmed.into())),
        }
    }
}

/// Paths where container runtimes reject mounts, or where a mount would hide devices.
const KERNEL_PATHS: [&str; 3] = ["/dev", "/proc", "/sys"];

fn is_mount_path(text: &str) -> bool {
    let is_segment = |part: &str| !matches!(part, "" | "." | "..");
    text.len() <= 1024
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b':')
        && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment))
}

fn is_within(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
