//! What the injection webhook told this container, read once from its environment.

use certmint_contract::{DnsName, Reload, pod_layout};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::Uri;

/// Variable: the directory that every path below lies in, `/` unless the fetcher runs outside a pod.
pub const ENV_ROOT: &str = "CERTMINT_ROOT";
/// Where the container runtime picks up the termination message (Kubernetes' default path).
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Everything the fetcher is told, valid.
#[derive(Debug)]
pub struct Settings {
    /// Where things lie.
    pub paths: Paths,
    /// The issuance API's origin, `https://HOST:PORT`.
    pub api: Uri,
    /// The cluster's DNS domain, when it is told.
    pub cluster_domain: Option<DnsName>,
    /// The roots (PEM) that the pod was injected with.
    pub trust_bundle: String,
    /// The mode of the published files.
    pub file_mode: u32,
    /// How the app is told.
    pub reload: Option<Reload>,
    /// The path of the SPIFFE id that the bundle must carry.
    pub identity: String,
    /// The pod's workload, as `Deployment/payments`, when it was known at injection.
    pub workload: Option<String>,
}

/// Where things lie in our container.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The tmpfs volume that the app sees.
    pub tls_dir: PathBuf,
    /// The projected token.
    pub token: PathBuf,
    /// The workload's Secret, when there is one.
    pub secret_dir: PathBuf,
    /// The termination message.
    pub termination_log: PathBuf,
}

/// The environment is not what the webhook writes.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable is not there.
    #[error(
        "the variable {0} is missing: this container is made by Certmint's webhook; delete the pod to have it injected again"
    )]
    Missing(&'static str),
    /// A variable has a value that cannot be.
    #[error("the variable {name} is \"{value}\", not {expected}; delete the pod to have it injected again")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// The kernel takes no signal handler.
    #[error("SIGTERM cannot be handled: {0}; see the pod's securityContext for what forbids it")]
    Signals(std::io::Error),
    /// The reload hook does not parse.
    #[error("{0}; correct the annotation certmint.dev/reload")]
    Reload(#[from] certmint_contract::reload::ReloadError),
}

impl Paths {
    /// The paths of `pod_layout`, below `root`.
    pub fn below(root: &Path) -> Self {
        let place = |path: &str| root.join(path.trim_start_matches('/'));
        Self {
            tls_dir: place(pod_layout::TLS_DIR),
            token: place(pod_layout::TOKEN_PATH),
            secret_dir: place(pod_layout::SECRET_DIR),
            termination_log: place(TERMINATION_LOG),
        }
    }

    /// The paths in this process's environment.
    pub fn from_environment() -> Self {
        Self::below(&std::env::var_os(ENV_ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from))
    }
}

impl Settings {
    /// Reads the variables through `lookup`.
    ///
    /// # Errors
    /// The first variable that is missing or wrong.
    pub fn new(paths: Paths, lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingsError> {
        let required = |name| lookup(name).ok_or(SettingsError::Missing(name));
        Ok(Self {
            paths,
            api: parse_origin(required(pod_layout::ENV_API)?)?,
            cluster_domain: lookup(pod_layout::ENV_CLUSTER_DOMAIN).map(parse_cluster_domain).transpose()?,
            trust_bundle: required(pod_layout::ENV_TRUST_BUNDLE)?,
            file_mode: parse_file_mode(required(pod_layout::ENV_FILE_MODE)?)?,
            reload: lookup(pod_layout::ENV_RELOAD).map(|hook| hook.parse()).transpose()?,
            identity: required(pod_layout::ENV_IDENTITY)?,
            workload: lookup(pod_layout::ENV_WORKLOAD),
        })
    }
}

/// The deadline in this process's environment.
///
/// # Errors
/// When it is no number of seconds.
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

/// Nobody but the owner ever writes, nothing is executable, and the owner can read.
fn parse_file_mode(value: String) -> Result<u32, SettingsError> {
    let mode = u32::from_str_radix(&value, 8).ok().filter(|mode| mode & !0o644 == 0 && mode & 0o400 != 0);
    mode.ok_or_else(|| invalid(pod_layout::ENV_FILE_MODE, value, "an octal mode like 0440"))
}

fn invalid(name: &'static str, value: String, expected: &'static str) -> SettingsError {
    SettingsError::Invalid { name, value: certmint_contract::excerpt(&value), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_with(name: &'static str, value: Option<&str>) -> Result<Settings, SettingsError> {
        Settings::new(Paths::below(Path::new("/")), |asked| match asked {
            asked if asked == name => value.map(str::to_owned),
            pod_layout::ENV_API => Some("https://certmint-controller.certmint-system.svc:8443".into()),
            pod_layout::ENV_TRUST_BUNDLE => Some("roots".into()),
            pod_layout::ENV_FILE_MODE => Some("0440".into()),
            pod_layout::ENV_IDENTITY => Some("/ns/shop/sa/payments".into()),
            _ => None,
        })
    }

    #[test]
    fn what_the_webhook_writes_is_read() {
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
    fn anything_else_names_the_variable() {
        for (name, value) in [
            (pod_layout::ENV_API, None),
            (pod_layout::ENV_API, Some("http://plain:80")),
            (pod_layout::ENV_API, Some("https://host:8443/path")),
            (pod_layout::ENV_TRUST_BUNDLE, None),
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
