//! The values that only annotations have.

use crate::pod_layout::DEFAULT_MOUNT_PATH;
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
        let names: Vec<Box<str>> = text.split(',').map(|name| name.trim().into()).collect();
        // A container is named like a namespace: an RFC 1123 label.
        match names.iter().find(|name| name.parse::<crate::Namespace>().is_err()) {
            Some(name) => {
                Err(format!("\"{}\" is not a container name: write names like app,proxy", shown(name)))
            }
            None => Ok(Self::Named(names)),
        }
    }
}

impl FromStr for MountPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let segment = |part: &str| !matches!(part, "" | "." | "..");
        let fits = trimmed.len() <= 1024
            && trimmed.bytes().all(|b| b.is_ascii_graphic() && b != b':')
            && trimmed.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment));
        if fits {
            return Ok(Self(trimmed.into()));
        }
        Err(format!(
            "\"{}\" is not a mount path: write an absolute path without \"..\" or ':', like {DEFAULT_MOUNT_PATH}",
            shown(text)
        ))
    }
}

/// A bad value cut to what an error line can hold.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// "x" is not one of …, with the nearest right spelling.
pub(super) fn not_one_of(text: &str, allowed: &[&str]) -> String {
    let hint = nearest(text, allowed).map(|near| format!(" (did you mean \"{near}\"?)")).unwrap_or_default();
    format!("\"{}\" is not allowed{hint}; use one of {}", shown(text), allowed.join(", "))
}

/// The entry most like a text, if any is alike enough to be meant.
pub(super) fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |entry: &&str| strsim::damerau_levenshtein(&shown(&text.to_lowercase()), entry);
    known.iter().copied().map(|entry| (distance(&entry), entry)).min().and_then(|(far, entry)| {
        // Three slips are a typing error; more is another word.
        (far <= 3 && far < entry.len()).then_some(entry)
    })
}
