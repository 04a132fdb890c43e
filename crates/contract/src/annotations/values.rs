//! The values that only annotations have.

use crate::keys;
use crate::pod_layout::DEFAULT_MOUNT_PATH;
use crate::spelling::{as_object_name, hint, not_one_of, shown};
use std::{fmt, str::FromStr};

/// The value of `certmint.dev/mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One key per workload, in a Secret.
    #[default]
    Secret,
    /// A key made in the pod, certified by the issuance API.
    Pod,
    /// A `podCertificate` projected volume.
    Kubelet,
}

/// A mode that is not built yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {key}: mode \"{0}\" is not supported yet; remove the annotation or write \"secret\"", key = keys::MODE
)]
pub struct UnsupportedMode(&'static str);

/// The value of `certmint.dev/order`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Before the pod's own init containers, which so have the certificate.
    #[default]
    First,
    /// After them.
    Last,
}

/// The value of `certmint.dev/containers`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Containers {
    /// Every container, init containers included.
    #[default]
    All,
    /// The named ones.
    Named(Vec<Box<str>>),
}

/// An absolute path inside a container: no `..`, `:` or empty segment, and not the root itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPath(Box<str>);

impl Mode {
    /// Checks that the mode is built.
    ///
    /// # Errors
    /// With every mode but [`Mode::Secret`].
    pub fn check(self) -> Result<(), UnsupportedMode> {
        match self {
            Self::Secret => Ok(()),
            Self::Pod => Err(UnsupportedMode("pod")),
            Self::Kubelet => Err(UnsupportedMode("kubelet")),
        }
    }
}

impl MountPath {
    /// The path as text.
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

impl FromStr for Mode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "secret" => Ok(Self::Secret),
            "pod" => Ok(Self::Pod),
            "kubelet" => Ok(Self::Kubelet),
            other => Err(not_one_of(other, &["secret", "pod", "kubelet"])),
        }
    }
}

impl FromStr for Order {
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
            if names.len() > super::MOST_NAMES {
                return Err(format!("more than {} names; write fewer", super::MOST_NAMES));
            }
        }
        // A container is named like a namespace: an RFC 1123 label.
        let is_name = |name: &str| name.parse::<crate::Namespace>().is_ok();
        match names.iter().find(|name| !is_name(name)) {
            Some(name) => {
                let meant = Some(as_object_name(name)).filter(|meant| is_name(meant));
                Err(format!(
                    "\"{}\" is not a container name{}; write names like app,proxy",
                    shown(name),
                    hint(meant)
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
            let meant = format!("/{}", shown(trimmed).trim().trim_start_matches('/').replace("//", "/"));
            return Err(format!(
                "\"{}\" is not a mount path{}; write an absolute path without \"..\" or ':', like {DEFAULT_MOUNT_PATH}",
                shown(text),
                hint(Some(meant).filter(|meant| is_mount_path(meant)))
            ));
        }
        match KERNEL_PATHS.iter().find(|path| is_within(trimmed, path)) {
            Some(path) => Err(format!(
                "\"{}\" lies within {path}, which is the kernel's; write another path, like {DEFAULT_MOUNT_PATH}",
                shown(text)
            )),
            None => Ok(Self(trimmed.into())),
        }
    }
}

/// Where container runtimes refuse mounts, or devices would be hidden.
const KERNEL_PATHS: [&str; 3] = ["/dev", "/proc", "/sys"];

fn is_mount_path(text: &str) -> bool {
    let segment = |part: &str| !matches!(part, "" | "." | "..");
    text.len() <= 1024
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b':')
        && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment))
}

fn is_within(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
