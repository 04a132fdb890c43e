//! Baseline of the webhook: nginx, which reads the same requests over TLS and returns as many bytes as the webhook,
//! without processing the requests.

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::{command, images, workload};
use serde_json::json;

use crate::common::{PORT, address};

const NAME: &str = "floor";
/// Length of the variable that nginx's responses are composed of.
const PART: usize = 1_000;

/// Starts nginx with a certificate from Certmint, and returns its URL. nginx answers `/0`, `/1`, … with as many bytes
/// as `sizes` lists.
pub(super) fn start(cluster: &Cluster, kubectl: &Kubectl<'_>, sizes: &[usize]) -> Result<String> {
    let image = cluster.provide(&images::nginx(cluster.cache())?)?;
    let answers = sizes.iter().enumerate().map(|(index, size)| {
        // nginx rejects words of more than 4 kB in its configuration. The variable makes the word shorter.
        let answer = "${part}".repeat(size / PART) + &"x".repeat(size % PART);
        format!("location /{index} {{ default_type application/json; return 200 \"{answer}\"; }}\n")
    });
    let config = format!(
        "server {{ listen {PORT} ssl; ssl_protocols TLSv1.3; keepalive_requests 1000000000;
           ssl_certificate /var/run/secrets/certmint.dev/tls.crt;
           ssl_certificate_key /var/run/secrets/certmint.dev/tls.key;
           set $part {}; {} }}",
        "x".repeat(PART),
        answers.collect::<String>(),
    );
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": NAME }, "data": { "floor.conf": config },
    });
    kubectl.apply(&config.to_string())?;
    let mut pod = workload::manifest("pod", NAME, &image, &json!({ "certmint.dev/inject": "true" }));
    let spec = pod.get_mut("spec").context("a pod has a spec")?;
    spec["volumes"] =
        json!([{ "name": "config", "configMap": { "name": NAME } }, { "name": "tmp", "emptyDir": {} }]);
    spec["containers"][0]["volumeMounts"] = json!([
        { "name": "config", "mountPath": "/etc/nginx/conf.d" },
        { "name": "tmp", "mountPath": "/tmp" },
    ]);
    spec["containers"][0]["readinessProbe"] = json!({ "tcpSocket": { "port": PORT }, "periodSeconds": 1 });
    kubectl.apply(&pod.to_string())?;
    workload::wait_for_injected_pods(kubectl, NAME)?;
    Ok(format!("https://{}", address(kubectl, &format!("app={NAME}"))?))
}

/// Returns nginx's name and version.
pub(super) fn server_name(cluster: &Cluster, url: &str) -> Result<String> {
    let mut curl = cluster.command("curl");
    let answer = command::output(curl.args(["--silent", "--show-error", "--insecure", "--head", url]))?;
    let name = answer.lines().find_map(|line| line.strip_prefix("Server: "));
    Ok(name.with_context(|| format!("nginx does not report its version:\n{answer}"))?.trim().to_owned())
}
