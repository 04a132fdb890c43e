//! The settings of certmint-fetch, which the webhook writes into the container's environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use certmint_contract::{DnsName, Reload, TrustBundle, TrustGeneration, excerpt, pod_layout};
use ureq::http::Uri;

/// Variable: directory that contains all paths in [`Paths`]. The default is `/`; tests use another directory.
pub const ENV_ROOT: &str = "CERTMINT_ROOT";
/// File whose content the kubelet reports as the termination message (the default of Kubernetes).
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Settings of certmint-fetch, validated.
#[derive(Debug)]
pub struct FetchSettings {
    /// Paths in the container.
    pub paths: Paths,
    /// Origin of the issuance API, `https://HOST:PORT`.
    pub api: Uri,
    /// DNS domain of the cluster. Pods that an earlier version injected do not have it.
    pub cluster_domain: Option<DnsName>,
    /// Roots that the webhook injected, and their generation.
    pub trust_bundle: TrustBundle,
    /// Mode of the published files.
    pub file_mode: u32,
    /// Hook that makes the app load new files.
    pub reload: Option<Reload>,
    /// Path of the SPIFFE ID that the certificate must have.
    pub identity: String,
    /// Workload of the pod, as `Deployment/payments`, if the webhook knew it at the injection.
    pub workload: Option<String>,
}

/// Paths in the certmint-fetch container.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Directory of the tmpfs volume that the app reads.
    pub tls_dir: PathBuf,
    /// File of the projected token.
    pub token: PathBuf,
    /// Directory of the workload's Secret. It may be empty or missing.
    pub secret_dir: PathBuf,
    /// File of the termination message.
    pub termination_log: PathBuf,
}

/// Error for an environment that is not valid.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable is missing.
    #[error(
        "the variable {0} is missing: Certmint's webhook sets it; delete the pod to have it injected again"
    )]
    Missing(&'static str),
    /// The value of a variable is not valid.
    #[error("the variable {name} is \"{value}\", not {expected}; delete the pod to have it injected again")]
    Invalid {
        /// Name of the variable.
        name: &'static str,
        /// Value of the variable, shortened.
        value: String,
        /// Description of a valid value.
        expected: &'static str,
    },
    /// The kernel rejects a signal handler.
    #[error("SIGTERM cannot be handled: {0}; see the pod's securityContext for what forbids it")]
    Signals(std::io::Error),
    /// The reload hook is not valid.
    #[error("{0}; correct the annotation certmint.dev/reload")]
    Reload(#[from] certmint_contract::reload::ReloadError),
}

impl Paths {
    /// Returns the paths of [`pod_layout`] below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let absolute = |path: &str| root.join(path.trim_start_matches('/'));
        Self {
            tls_dir: absolute(pod_layout::TLS_DIR),
            token: absolute(pod_layout::TOKEN_PATH),
            secret_dir: absolute(pod_layout::SECRET_DIR),
            termination_log: absolute(TERMINATION_LOG),
        }
    }

    /// Returns the paths below the directory in [`ENV_ROOT`].
    #[must_use]
    pub fn from_environment() -> Self {
        Self::below(&std::env::var_os(ENV_ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from))
    }
}

impl FetchSettings {
    /// Reads the variables with `lookup`.
    ///
    /// # Errors
    /// When a variable is missing or not valid.
    pub fn new(paths: Paths, lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingsError> {
        let required = |name| lookup(name).ok_or(SettingsError::Missing(name));
        Ok(Self {
            paths,
            api: parse_origin(required(pod_layout::ENV_API)?)?,
            cluster_domain: lookup(pod_layout::ENV_CLUSTER_DOMAIN).map(parse_cluster_domain).transpose()?,
            trust_bundle: TrustBundle {
                roots: required(pod_layout::ENV_TRUST_BUNDLE)?,
                generation: parse_generation(lookup(pod_layout::ENV_TRUST_GENERATION))?,
            },
            file_mode: parse_file_mode(required(pod_layout::ENV_FILE_MODE)?)?,
            reload: lookup(pod_layout::ENV_RELOAD).map(|hook| hook.parse()).transpose()?,
            identity: required(pod_layout::ENV_IDENTITY)?,
            workload: lookup(pod_layout::ENV_WORKLOAD),
        })
    }
}

/// Reads the deadline of `certmint-fetch wait` from the value of its variable.
///
/// # Errors
/// When the value is not a positive number of seconds.
pub fn parse_deadline(value: Option<String>) -> Result<Duration, SettingsError> {
    let Some(value) = value else {
        return Ok(Duration::from_secs(pod_layout::DEFAULT_DEADLINE_SECONDS.into()));
    };
    match value.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(invalid(pod_layout::ENV_DEADLINE, value, "a number of seconds above 0")),
    }
}

fn parse_origin(value: String) -> Result<Uri, SettingsError> {
    let origin = value
        .parse::<Uri>()
        .ok()
        .filter(|uri| uri.scheme_str() == Some("https") && uri.authority().is_some() && uri.path() == "/");
    origin.ok_or_else(|| invalid(pod_layout::ENV_API, value, "an origin like https://HOST:PORT"))
}

fn parse_cluster_domain(value: String) -> Result<DnsName, SettingsError> {
    value.parse().map_err(|_| invalid(pod_layout::ENV_CLUSTER_DOMAIN, value, "a DNS name like cluster.local"))
}

/// Reads a mode with which the owner can read, only the owner can write, and no user can execute.
fn parse_file_mode(value: String) -> Result<u32, SettingsError> {
    let mode = u32::from_str_radix(&value, 8).ok().filter(|mode| mode & !0o644 == 0 && mode & 0o400 != 0);
    mode.ok_or_else(|| invalid(pod_layout::ENV_FILE_MODE, value, "an octal mode like 0440"))
}

/// Reads a generation. Pods that version 0.1.0 injected do not have it.
fn parse_generation(value: Option<String>) -> Result<TrustGeneration, SettingsError> {
    let Some(value) = value else { return Ok(TrustGeneration::FIRST) };
    value.parse().map_err(|_| invalid(pod_layout::ENV_TRUST_GENERATION, value, "a whole number from 1 on"))
}

fn invalid(name: &'static str, value: String, expected: &'static str) -> SettingsError {
    SettingsError::Invalid { name, value: excerpt(&value), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_with(name: &'static str, value: Option<&str>) -> Result<FetchSettings, SettingsError> {
        FetchSettings::new(Paths::below(Path::new("/")), |asked| match asked {
            asked if asked == name => value.map(str::to_owned),
            pod_layout::ENV_API => Some("https://certmint-controller.certmint-system.svc:8443".into()),
            pod_layout::ENV_TRUST_BUNDLE => Some("roots".into()),
            pod_layout::ENV_FILE_MODE => Some("0440".into()),
            pod_layout::ENV_IDENTITY => Some("/ns/shop/sa/payments".into()),
            _ => None,
        })
    }

    #[test]
    fn reads_what_the_webhook_writes() {
        let settings = settings_with("", None).unwrap();
        assert_eq!(settings.file_mode, 0o440);
        assert_eq!(settings.cluster_domain, None);
        assert_eq!(settings.paths.token, Path::new(pod_layout::TOKEN_PATH));
        assert_eq!(settings.paths.termination_log, Path::new("/dev/termination-log"));
        let hooked = settings_with(pod_layout::ENV_RELOAD, Some("signal:SIGHUP:nginx")).unwrap();
        assert_eq!(hooked.reload.unwrap().to_string(), "signal:SIGHUP:nginx");
    }

    #[test]
    fn a_deadline_is_a_number_of_seconds() {
        assert_eq!(parse_deadline(None).unwrap(), Duration::from_secs(30));
        assert_eq!(parse_deadline(Some("5".into())).unwrap(), Duration::from_secs(5));
        for value in ["0", "soon"] {
            let error = parse_deadline(Some(value.into())).unwrap_err().to_string();
            assert!(error.contains(pod_layout::ENV_DEADLINE), "{error}");
        }
    }

    #[test]
    fn an_invalid_value_names_its_variable() {
        for (name, value) in [
            (pod_layout::ENV_API, None),
            (pod_layout::ENV_API, Some("http://plain:80")),
            (pod_layout::ENV_API, Some("https://host:8443/path")),
            (pod_layout::ENV_TRUST_BUNDLE, None),
            (pod_layout::ENV_TRUST_GENERATION, Some("0")),
            (pod_layout::ENV_FILE_MODE, Some("0777")),
            (pod_layout::ENV_FILE_MODE, Some("0044")),
            (pod_layout::ENV_FILE_MODE, Some("rw")),
            (pod_layout::ENV_CLUSTER_DOMAIN, Some("not a name")),
        ] {
            let error = settings_with(name, value).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
