//! Flags of `certmint webhook`. Each flag has an environment variable too.

use std::net::SocketAddr;
use std::path::PathBuf;

use certmint_contract::TrustBundle;
use certmint_contract::pod_layout::DEFAULT_DEADLINE_SECONDS;
use certmint_injection::{InjectionSettings, Quantity, ResourceDefaults, RunAsUser};
use http::uri::Authority;

/// Answers admission reviews of pods and workloads.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address on which the webhook serves POST /mutate over TLS. `[::]` means every address, including IPv4.
    #[arg(long, env = "CERTMINT_LISTEN", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Address on which the program serves /healthz, /readyz and /metrics over plain HTTP. `[::]` means every
    /// address, including IPv4.
    #[arg(long, env = "CERTMINT_HEALTH_LISTEN", default_value = "[::]:9402")]
    pub health_listen: SocketAddr,
    /// Directory with the webhook's mounted Secret: tls.crt and tls.key for the webhook itself, and ca.crt, with
    /// which injected pods verify the issuance API. The webhook reloads the files when they change.
    #[arg(long, env = "CERTMINT_TLS_DIR")]
    pub tls_dir: PathBuf,
    /// JSON file with the policy. The program reloads it when it changes, and ignores it while it is not valid.
    #[arg(long, env = "CERTMINT_POLICY")]
    pub policy: PathBuf,
    /// File with the last valid policy, which the controller keeps. The program starts with it while the policy is
    /// not valid.
    #[arg(long, env = "CERTMINT_LAST_VALID_POLICY")]
    pub last_valid_policy: Option<PathBuf>,
    /// Flags for injected pods.
    #[command(flatten)]
    pub pods: PodArgs,
}

/// Flags for injected pods.
#[derive(Clone, Debug, clap::Args)]
pub struct PodArgs {
    /// Origin of the issuance API as pods reach it, https://HOST:PORT.
    #[arg(long, alias = "api", env = "CERTMINT_API_URL", value_parser = parse_origin)]
    pub api_url: String,
    /// Image of the certmint-fetch container.
    #[arg(long, env = "CERTMINT_FETCH_IMAGE")]
    pub fetch_image: String,
    /// imagePullPolicy of the certmint-fetch container.
    #[arg(long, env = "CERTMINT_FETCH_IMAGE_PULL_POLICY", default_value = "IfNotPresent",
          value_parser = ["Always", "IfNotPresent", "Never"])]
    pub fetch_image_pull_policy: String,
    /// CPU request of the certmint-fetch container.
    #[arg(long, env = "CERTMINT_FETCH_CPU_REQUEST", default_value = "5m")]
    pub fetch_cpu_request: Quantity,
    /// Memory request of the certmint-fetch container.
    #[arg(long, env = "CERTMINT_FETCH_MEMORY_REQUEST", default_value = "8Mi")]
    pub fetch_memory_request: Quantity,
    /// CPU limit of the certmint-fetch container in pods whose containers all have a CPU limit.
    #[arg(long, env = "CERTMINT_FETCH_CPU_LIMIT", default_value = "200m")]
    pub fetch_cpu_limit: Quantity,
    /// Memory limit of the certmint-fetch container.
    #[arg(long, env = "CERTMINT_FETCH_MEMORY_LIMIT", default_value = "32Mi")]
    pub fetch_memory_limit: Quantity,
    /// CPU request and limit of the certmint-fetch container in pods of QoS class Guaranteed.
    #[arg(long, env = "CERTMINT_FETCH_GUARANTEED_CPU", default_value = "50m")]
    pub fetch_guaranteed_cpu: Quantity,
    /// Whether the webhook sets runAsUser of the certmint-fetch container from the pod's spec (set), or lets the
    /// cluster choose it (unset), as OpenShift requires.
    #[arg(long, env = "CERTMINT_FETCH_RUN_AS_USER", default_value = "set", value_parser = ["set", "unset"])]
    pub fetch_run_as_user: String,
    /// Seconds that a pod waits for its first certificate before an Event reports why there is none. The pod
    /// continues to wait.
    #[arg(long, env = "CERTMINT_FETCH_DEADLINE_SECONDS", default_value_t = DEFAULT_DEADLINE_SECONDS,
          value_parser = clap::value_parser!(u32).range(1..=600))]
    pub fetch_deadline_seconds: u32,
}

impl PodArgs {
    /// Returns the settings of the injection with that trust bundle.
    pub(crate) fn settings(&self, trust_bundle: TrustBundle) -> InjectionSettings {
        let Self {
            api_url,
            fetch_image,
            fetch_image_pull_policy,
            fetch_cpu_request,
            fetch_memory_request,
            fetch_cpu_limit,
            fetch_memory_limit,
            fetch_guaranteed_cpu,
            fetch_run_as_user,
            fetch_deadline_seconds,
        } = self.clone();
        InjectionSettings {
            image: fetch_image,
            pull_policy: fetch_image_pull_policy,
            api_url,
            trust_bundle,
            resources: ResourceDefaults {
                cpu_request: fetch_cpu_request,
                memory_request: fetch_memory_request,
                cpu_limit: fetch_cpu_limit,
                memory_limit: fetch_memory_limit,
                guaranteed_cpu: fetch_guaranteed_cpu,
            },
            run_as_user: if fetch_run_as_user == "unset" { RunAsUser::Unset } else { RunAsUser::Set },
            deadline_seconds: fetch_deadline_seconds,
            version: concat!("certmint/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

fn parse_origin(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").and_then(|rest| rest.parse::<Authority>().ok());
    match authority.filter(|authority| !authority.host().is_empty() && !text.contains('@')) {
        Some(_) => Ok(text.to_owned()),
        None => Err("write https://HOST:PORT, without a path".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_a_name_or_an_ip_address() {
        for origin in [
            "https://certmint-controller.certmint-system.svc:443",
            "https://198.51.100.1:443",
            "https://[2001:db8::1]:443",
        ] {
            assert_eq!(parse_origin(origin).as_deref(), Ok(origin));
        }
        for other in
            ["", "https://", "http://a.svc:443", "https://a.svc:443/", "https://2001:db8::1", "https://a b"]
        {
            assert!(parse_origin(other).is_err(), "{other}");
        }
    }
}
