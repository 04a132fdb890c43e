//! The webhook as the API server meets it: over TLS, beside nginx answering the same request.

use std::path::Path;

use anyhow::{Context as _, Result};
use certmint_e2e::cluster::Cluster;
use certmint_e2e::images;
use certmint_e2e::kubectl::Kubectl;
use certmint_e2e::story::installation::SYSTEM_NAMESPACE;
use certmint_e2e::story::{namespace, workload};
use certmint_testkit::sample_review;
use serde_json::json;

use crate::Run;
use crate::figure::{Figure, Target};
use crate::in_process::not_opted_in;
use crate::process::Process;
use crate::wrk::{self, Load, Outcome};

const ROW: &str = "webhook";
const NAMESPACE: &str = "bench-webhook";

pub(crate) fn webhook(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let floor = nginx(cluster)?;
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let address = address(&system, "app.kubernetes.io/component=webhook")?;
    let url = format!("https://{address}:8443/mutate");
    let process = Process::only(cluster, "^/certmint webhook")?;
    let directory = cluster.state()?.directory().to_path_buf();
    let mut figures = vec![Figure::new(ROW, "RSS before any review", process.rss()?, "MiB")];
    for (what, body) in [("injected", sample_review().json()), ("not opted in", not_opted_in().json())] {
        for clients in [1, 8] {
            let load = Load { url: &url, body: &body, clients, seconds: if run.quick { 1 } else { 10 } };
            figures.extend(reviews(cluster, &directory, &process, &floor, what, load)?);
        }
    }
    if !run.quick {
        let (body, mut sent) = (sample_review().json(), 0.0);
        while sent < 1e6 {
            let load = Load { url: &url, body: &body, clients: 8, seconds: 60 };
            sent += wrk::run(cluster, &directory, load)?.requests;
        }
        let peak = Figure::new(ROW, "most RSS after a million reviews", process.peak_rss()?, "MiB");
        figures.push(peak.target(Target::Most(16.0)));
    }
    Ok(figures)
}

/// The figures of one load, beside nginx under the same.
fn reviews(
    cluster: &Cluster,
    directory: &Path,
    process: &Process<'_>,
    floor: &str,
    what: &str,
    load: Load<'_>,
) -> Result<Vec<Figure>> {
    let nginx = wrk::run(cluster, directory, Load { url: floor, ..load })?;
    let before = process.cpu()?;
    let Outcome { requests, p50, p99 } = wrk::run(cluster, directory, load)?;
    let cpu = (process.cpu()? - before) / requests * 1e3;
    let clients = load.clients;
    let (times_p50, times_p99) = if clients == 1 { (2.0, 1.5) } else { (3.0, 3.0) };
    let injected = what == "injected";
    let figure = |name: &str, value, floor| {
        Figure::new(ROW, format!("{what}, {clients} client(s), {name}"), value, "ms").beside("nginx", floor)
    };
    let judged =
        |figure: Figure, times| if injected { figure.target(Target::MostTimes(times)) } else { figure };
    Ok(vec![
        judged(figure("p50", p50, nginx.p50), times_p50),
        judged(figure("p99", p99, nginx.p99), times_p99),
        Figure::new(ROW, format!("{what}, {clients} client(s), CPU a review"), cpu, "ms")
            .target(Target::Most(if injected { 0.08 } else { 0.04 })),
    ])
}

/// nginx with a certificate of ours, answering as many bytes as the webhook does; returns its URL.
fn nginx(cluster: &Cluster) -> Result<String> {
    let kubectl = namespace(cluster, NAMESPACE, &[])?;
    let image = cluster.provide(&images::nginx(cluster.cache())?)?;
    let answer = "x".repeat(3_000);
    let config = format!(
        "server {{ listen 8443 ssl; ssl_protocols TLSv1.3; keepalive_requests 100000000;
           ssl_certificate /var/run/secrets/certmint.dev/tls.crt;
           ssl_certificate_key /var/run/secrets/certmint.dev/tls.key;
           access_log off; location / {{ default_type application/json; return 200 \"{answer}\"; }} }}"
    );
    let config_map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "floor" }, "data": { "floor.conf": config },
    });
    kubectl.apply(&config_map.to_string())?;
    let mut pod = workload::manifest("pod", "floor", &image, &json!({ "certmint.dev/inject": "true" }));
    let spec = pod.get_mut("spec").context("a pod has a spec")?;
    spec["volumes"] = json!([{ "name": "config", "configMap": { "name": "floor" } }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "config", "mountPath": "/etc/nginx/conf.d" }]);
    kubectl.apply(&pod.to_string())?;
    workload::await_pods(&kubectl, "floor", true)?;
    Ok(format!("https://{}:8443/", address(&kubectl, "app=floor")?))
}

fn address(kubectl: &Kubectl<'_>, selector: &str) -> Result<String> {
    let pods = kubectl.list(&["pods", &format!("--selector={selector}")])?;
    let pod = pods.first().with_context(|| format!("no pod with {selector}"))?;
    Ok(pod["status"]["podIP"].as_str().context("the pod has no address")?.to_owned())
}
