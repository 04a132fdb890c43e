//! Annotations that a user may write, parsed once into types.

mod error;
pub mod reference;
mod resources;
mod values;

pub use error::AnnotationError;
pub use resources::ResourceOverrides;
pub use values::{Containers, InitPosition, Mode, MountPath, Renew};

use std::fmt::Display;
use std::str::FromStr;

use crate::object_name::ObjectNameError;
use crate::{DnsName, KeyAlgorithm, Lifetime, Reload, SecretName, WorkloadRef, keys, spelling};
use values::parse_mode;

/// Result of parsing the annotations of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptIn {
    /// The object has no annotation `inject`, or `inject: "false"`.
    No,
    /// The object has `inject: "true"`, and these options.
    Yes(Box<WorkloadOptions>),
}

/// Options of a workload that opted in. An option that is `None` is not set: the default or the policy decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadOptions {
    /// Delivery of the certificate.
    pub mode: Mode,
    /// Name of the Secret, instead of `<workload>-certmint-tls`.
    pub secret_name: Option<SecretName>,
    /// DNS names in addition to the names of Services, each subject to the policy.
    pub dns_names: Vec<DnsName>,
    /// Lifetime of the certificate, subject to the policy.
    pub duration: Option<Lifetime>,
    /// Algorithm of the private key, subject to the policy.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Directory in the application's containers that holds the files.
    pub mount_path: MountPath,
    /// Containers that get the files.
    pub containers: Containers,
    /// Renewal of the files in the running pod.
    pub renew: Renew,
    /// Hook that announces new files to the application.
    pub reload: Option<Reload>,
    /// Position of the certmint-fetch container among the init containers.
    pub order: InitPosition,
    /// Requests and limits of the certmint-fetch container instead of the chart's, subject to the policy.
    pub resources: Option<ResourceOverrides>,
}

impl WorkloadOptions {
    /// Returns the name of the workload's Secret: the name in the annotation, else the default.
    ///
    /// # Errors
    /// When the annotation is missing and the name of the workload is not a valid object name.
    pub fn secret_name_for(&self, workload: &WorkloadRef) -> Result<SecretName, ObjectNameError> {
        self.secret_name.clone().map_or_else(|| workload.default_secret_name(), Ok)
    }
}

/// Maximum length of a value in bytes. That is enough for [`MAX_LIST_ENTRIES`] names of 80 characters.
pub const MAX_VALUE_BYTES: usize = 8 * 1024;
/// Maximum number of names in one value.
pub const MAX_LIST_ENTRIES: usize = 100;
/// Maximum number of errors in one result.
pub const MAX_ERRORS: usize = 20;

/// Parses the annotations of one object. Keys without Certmint's prefix are ignored.
///
/// # Errors
/// Returns up to [`MAX_ERRORS`] errors together, so that the user can correct all of them in one step. If an object did
/// not opt in, only unknown keys and a wrong value of `inject` are errors.
pub fn parse<'a>(
    annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<OptIn, Vec<AnnotationError>> {
    let mut options = WorkloadOptions::default();
    let mut opted_in = false;
    // Errors in other values count only if the object opted in. The loop knows that only after the last key.
    let (mut errors, mut errors_if_opted_in) = (Vec::new(), Vec::new());
    for (key, value) in annotations.into_iter().filter(|(key, _)| key.starts_with(keys::PREFIX)) {
        let parsed = match key {
            keys::INJECT => parse_value(key, value, parse_bool).map(|yes| opted_in = yes),
            keys::MODE => {
                check_length(key, value).and_then(|()| parse_mode(value)).map(|mode| options.mode = mode)
            }
            keys::SECRET_NAME => {
                parse_value(key, value, str::parse).map(|name| options.secret_name = Some(name))
            }
            keys::DNS_NAMES => parse_value(key, value, parse_list).map(|names| options.dns_names = names),
            keys::DURATION => {
                parse_value(key, value, str::parse).map(|lifetime| options.duration = Some(lifetime))
            }
            keys::KEY_ALGORITHM => {
                parse_value(key, value, str::parse).map(|algorithm| options.key_algorithm = Some(algorithm))
            }
            keys::MOUNT_PATH => parse_value(key, value, str::parse).map(|path| options.mount_path = path),
            keys::CONTAINERS => {
                parse_value(key, value, str::parse).map(|containers| options.containers = containers)
            }
            keys::RENEW => parse_value(key, value, parse_bool)
                .map(|renews| options.renew = if renews { Renew::Sidecar } else { Renew::Never }),
            keys::RELOAD => parse_value(key, value, str::parse).map(|hook| options.reload = Some(hook)),
            keys::ORDER => parse_value(key, value, str::parse).map(|position| options.order = position),
            keys::RESOURCES => {
                parse_value(key, value, str::parse).map(|resources| options.resources = Some(resources))
            }
            key if keys::KEYS_WRITTEN_BY_WEBHOOK.contains(&key) => Ok(()),
            // The search for the nearest known key is costly, so the number of unknown keys is limited.
            _ if errors.len() >= MAX_ERRORS => Ok(()),
            key => {
                errors.push(AnnotationError::unknown(key));
                Ok(())
            }
        };
        if let Err(error) = parsed {
            // A wrong value of `inject` is always an error: Certmint cannot know whether the user wants to opt in.
            if key == keys::INJECT { errors.push(error) } else { errors_if_opted_in.push(error) }
        }
    }
    if opted_in {
        errors.append(&mut errors_if_opted_in);
    }
    errors.truncate(MAX_ERRORS);
    match (errors.is_empty(), opted_in) {
        (false, _) => Err(errors),
        (true, true) => Ok(OptIn::Yes(Box::new(options))),
        (true, false) => Ok(OptIn::No),
    }
}

/// Returns the user keys in a value of [`keys::COPIED`]. The webhook copied the annotations with these keys from the
/// workload to its pod template; the user did not write them there.
pub fn copied_keys(list: &str) -> impl Iterator<Item = &'static str> + '_ {
    let is_listed =
        move |key: &&str| list.split(',').any(|name| key.strip_prefix(keys::PREFIX) == Some(name));
    keys::USER_KEYS.into_iter().filter(is_listed)
}

fn parse_value<T, E: Display>(
    key: &str,
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, AnnotationError> {
    check_length(key, value)?;
    parse(value).map_err(|why| AnnotationError::invalid(key, &why))
}

fn check_length(key: &str, value: &str) -> Result<(), AnnotationError> {
    if value.len() > MAX_VALUE_BYTES {
        let why = format!("the value is longer than {MAX_VALUE_BYTES} bytes; write a shorter one");
        return Err(AnnotationError::invalid(key, &why));
    }
    Ok(())
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        // YAML accepts these words as booleans, but the value of an annotation is a string.
        other => Err(match &*other.trim().to_lowercase() {
            "yes" | "y" | "on" | "1" => not_a_bool(other, "true"),
            "no" | "n" | "off" | "0" => not_a_bool(other, "false"),
            _ => spelling::not_one_of(other, &["true", "false"]),
        }),
    }
}

fn not_a_bool(text: &str, suggestion: &str) -> String {
    let (text, hint) = (spelling::excerpt(text), spelling::hint(Some(suggestion)));
    format!("\"{text}\" is not allowed{hint}; use one of true, false")
}

/// Parses a comma separated list. Drops duplicates. For an empty entry, returns the error of `T`.
fn parse_list<T: FromStr + PartialEq>(text: &str) -> Result<Vec<T>, String>
where
    T::Err: Display,
{
    let mut list = Vec::new();
    for entry in text.split(',') {
        let entry = entry.trim().parse().map_err(|why: T::Err| why.to_string())?;
        if !list.contains(&entry) {
            list.push(entry);
        }
        if list.len() > MAX_LIST_ENTRIES {
            return Err(format!("more than {MAX_LIST_ENTRIES} names; write fewer"));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
