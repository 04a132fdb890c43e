//! The flags of `certmint webhook`. Each can be given as an environment variable too.

use certmint_contract::pod_layout::DEFAULT_DEADLINE_SECONDS;
use certmint_injection::{ContainerResources, Quantity, RunAsUser, Settings};
use http::uri::Authority;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Answers admission reviews of pods and workloads.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where POST /mutate is served over TLS. `[::]` stands for every address, of IPv4 too.
    #[arg(long, env = "CERTMINT_LISTEN", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are served over plain HTTP. `[::]` stands for every address, of IPv4 too.
    #[arg(long, env = "CERTMINT_HEALTH_LISTEN", default_value = "[::]:9402")]
    pub health_listen: SocketAddr,
    /// The mounted Secret of the webhook: tls.crt and tls.key to serve with, and ca.crt, which injected pods
    /// check the issuance API against. Read again when it changes.
    #[arg(long, env = "CERTMINT_TLS_DIR")]
    pub tls_dir: PathBuf,
    /// The policy, a JSON file. Read again when it changes; a broken one is not taken.
    #[arg(long, env = "CERTMINT_POLICY")]
    pub policy: PathBuf,
    /// The last policy that was valid, as the controller keeps it: what the program begins with when the policy is
    /// broken at its start.
    #[arg(long, env = "CERTMINT_LAST_VALID_POLICY")]
    pub last_valid_policy: Option<PathBuf>,
    /// What goes into pods.
    #[command(flatten)]
    pub pods: PodArgs,
}

/// What the webhook puts into pods.
#[derive(Clone, Debug, clap::Args)]
pub struct PodArgs {
    /// The issuance API's origin as pods reach it, https://HOST:PORT.
    #[arg(long, alias = "api", env = "CERTMINT_API_URL", value_parser = parse_origin)]
    pub api_url: String,
    /// The image of the injected container.
    #[arg(long, env = "CERTMINT_FETCH_IMAGE")]
    pub fetch_image: String,
    /// The injected container's imagePullPolicy.
    #[arg(long, env = "CERTMINT_FETCH_IMAGE_PULL_POLICY", default_value = "IfNotPresent",
          value_parser = ["Always", "IfNotPresent", "Never"])]
    pub fetch_image_pull_policy: String,
    /// The injected container's CPU request.
    #[arg(long, env = "CERTMINT_FETCH_CPU_REQUEST", default_value = "5m")]
    pub fetch_cpu_request: Quantity,
    /// The injected container's memory request.
    #[arg(long, env = "CERTMINT_FETCH_MEMORY_REQUEST", default_value = "8Mi")]
    pub fetch_memory_request: Quantity,
    /// The injected container's CPU limit in pods each of whose containers has one.
    #[arg(long, env = "CERTMINT_FETCH_CPU_LIMIT", default_value = "200m")]
    pub fetch_cpu_limit: Quantity,
    /// The injected container's memory limit.
    #[arg(long, env = "CERTMINT_FETCH_MEMORY_LIMIT", default_value = "32Mi")]
    pub fetch_memory_limit: Quantity,
    /// The injected container's CPU request and limit in pods of QoS class Guaranteed.
    #[arg(long, env = "CERTMINT_FETCH_GUARANTEED_CPU", default_value = "50m")]
    pub fetch_guaranteed_cpu: Quantity,
    /// Who decides about the injected container's runAsUser: set it from the pod's spec, or leave it unset for the
    /// platform, as OpenShift needs it.
    #[arg(long, env = "CERTMINT_FETCH_RUN_AS_USER", default_value = "set", value_parser = ["set", "unset"])]
    pub fetch_run_as_user: String,
    /// Seconds that a pod waits for its first certificate before an Event says why there is none; it goes on waiting.
    #[arg(long, env = "CERTMINT_FETCH_DEADLINE_SECONDS", default_value_t = DEFAULT_DEADLINE_SECONDS,
          value_parser = clap::value_parser!(u32).range(1..=600))]
    pub fetch_deadline_seconds: u32,
}

impl PodArgs {
    /// The settings, once the trust bundle is known.
    pub(crate) fn settings(&self, trust_bundle: String) -> Settings {
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
        Settings {
            image: fetch_image,
            pull_policy: fetch_image_pull_policy,
            api_url,
            trust_bundle,
            resources: ContainerResources {
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
    fn the_origin_of_the_issuance_api_is_a_name_or_an_address_of_either_family() {
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
