//! The annotations a user may write, parsed once into types.

mod error;
mod resources;
mod values;

pub use error::AnnotationError;
pub use resources::ContainerResources;
pub use values::{Containers, Mode, MountPath, Order, UnsupportedMode};

use crate::object_name::ObjectNameError;
use crate::{DnsName, KeyAlgorithm, Lifetime, Reload, SecretName, WorkloadRef, keys, spelling};
use std::str::FromStr;

/// Whether an object takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptIn {
    /// It has no `inject`, or `inject: "false"`.
    No,
    /// It has `inject: "true"`, and this is what it asks for.
    Yes(Box<Request>),
}

/// What an object that opted in asks for. `None` leaves the choice to the policy or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// How the certificate is delivered.
    pub mode: Mode,
    /// The Secret, instead of `<workload>-certmint-tls`.
    pub secret_name: Option<SecretName>,
    /// Names beyond the Services', each subject to policy.
    pub dns_names: Vec<DnsName>,
    /// Length of life, subject to policy.
    pub duration: Option<Lifetime>,
    /// Kind of key, subject to policy.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Where the app's containers find the files.
    pub mount_path: MountPath,
    /// Which containers get them.
    pub containers: Containers,
    /// Whether a sidecar stays.
    pub renew: Renew,
    /// How the app is told.
    pub reload: Option<Reload>,
    /// Our container's place.
    pub order: Order,
    /// What our container asks for and may use, instead of what the chart says; subject to policy.
    pub resources: Option<ContainerResources>,
}

impl Request {
    /// The Secret that the workload gets: the one it asks for, else its default.
    ///
    /// # Errors
    /// When it asks for none and its name is no object name.
    pub fn secret_name_for(&self, workload: &WorkloadRef) -> Result<SecretName, ObjectNameError> {
        self.secret_name.clone().map_or_else(|| workload.default_secret_name(), Ok)
    }
}

/// The value of `certmint.dev/renew`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// `true`: the init container stays as a sidecar and renews.
    #[default]
    Sidecar,
    /// `false`: the init container runs once and exits.
    Never,
}

/// The longest value of an annotation, in bytes: room for a hundred names, and no more work than they are.
pub const LONGEST_VALUE: usize = 8 * 1024;
/// The most names in one list.
pub const MOST_NAMES: usize = 100;
/// The most faults that are told at once; who mends these may see more.
pub const MOST_FAULTS: usize = 20;

/// Reads the annotations of one object: keys under our prefix only, others are passed over.
///
/// # Errors
/// Every fault at once (up to [`MOST_FAULTS`]), so that the user mends them in one go. An object that did not opt in is not
/// searched for faults beyond `inject` itself and unknown keys.
pub fn parse<'a>(
    annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<OptIn, Vec<AnnotationError>> {
    let mut request = Request::default();
    let (mut inject, mut faults, mut unknown) = (false, Vec::new(), Vec::new());
    for (key, value) in annotations.into_iter().filter(|(key, _)| key.starts_with(keys::PREFIX)) {
        let outcome = match key {
            keys::INJECT => value_of(key, value, parse_bool).map(|yes| inject = yes),
            keys::MODE => value_of(key, value, str::parse).map(|mode| request.mode = mode),
            keys::SECRET_NAME => {
                value_of(key, value, str::parse).map(|name| request.secret_name = Some(name))
            }
            keys::DNS_NAMES => value_of(key, value, parse_list).map(|names| request.dns_names = names),
            keys::DURATION => value_of(key, value, str::parse).map(|life| request.duration = Some(life)),
            keys::KEY_ALGORITHM => {
                value_of(key, value, str::parse).map(|kind| request.key_algorithm = Some(kind))
            }
            keys::MOUNT_PATH => value_of(key, value, str::parse).map(|path| request.mount_path = path),
            keys::CONTAINERS => value_of(key, value, str::parse).map(|which| request.containers = which),
            keys::RENEW => value_of(key, value, parse_bool)
                .map(|yes| request.renew = if yes { Renew::Sidecar } else { Renew::Never }),
            keys::RELOAD => value_of(key, value, str::parse).map(|hook| request.reload = Some(hook)),
            keys::ORDER => value_of(key, value, str::parse).map(|order| request.order = order),
            keys::RESOURCES => value_of(key, value, str::parse).map(|asked| request.resources = Some(asked)),
            key if keys::OWN_KEYS.contains(&key) => Ok(()),
            // Enough is enough: each is searched for what was meant.
            _ if unknown.len() >= MOST_FAULTS => Ok(()),
            key => {
                unknown.push(AnnotationError::unknown(key));
                Ok(())
            }
        };
        if let Err(fault) = outcome {
            // A broken `inject` is always a fault: nobody knows whether it meant yes.
            if key == keys::INJECT { unknown.push(fault) } else { faults.push(fault) }
        }
    }
    if inject {
        unknown.append(&mut faults);
    }
    unknown.truncate(MOST_FAULTS);
    match (unknown.is_empty(), inject) {
        (false, _) => Err(unknown),
        (true, true) => Ok(OptIn::Yes(Box::new(request))),
        (true, false) => Ok(OptIn::No),
    }
}

/// The user's keys that a value of [`keys::COPIED`] lists: those follow the workload, whatever its template says.
pub fn copied(list: &str) -> impl Iterator<Item = &'static str> + '_ {
    let named = move |key: &&str| list.split(',').any(|name| key.strip_prefix(keys::PREFIX) == Some(name));
    keys::USER_KEYS.into_iter().filter(named)
}

fn value_of<T, E: std::fmt::Display>(
    key: &str,
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, AnnotationError> {
    if value.len() > LONGEST_VALUE {
        let why = format!("the value is longer than {LONGEST_VALUE} bytes; write a shorter one");
        return Err(AnnotationError::invalid(key, &why));
    }
    parse(value).map_err(|why| AnnotationError::invalid(key, &why))
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        // A YAML reader takes these words for the two; an annotation is text.
        other => Err(match &*other.trim().to_lowercase() {
            "yes" | "y" | "on" | "1" => spelled("true", other),
            "no" | "n" | "off" | "0" => spelled("false", other),
            _ => spelling::not_one_of(other, &["true", "false"]),
        }),
    }
}

fn spelled(meant: &str, text: &str) -> String {
    let (text, hint) = (spelling::shown(text), spelling::hint(Some(meant)));
    format!("\"{text}\" is not allowed{hint}; use one of true, false")
}

/// A comma separated list without empty entries or duplicates.
fn parse_list<T: FromStr + PartialEq>(text: &str) -> Result<Vec<T>, String>
where
    T::Err: std::fmt::Display,
{
    let mut list = Vec::new();
    for entry in text.split(',') {
        let entry = entry.trim().parse().map_err(|why: T::Err| why.to_string())?;
        if !list.contains(&entry) {
            list.push(entry);
        }
        if list.len() > MOST_NAMES {
            return Err(format!("more than {MOST_NAMES} names; write fewer"));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
