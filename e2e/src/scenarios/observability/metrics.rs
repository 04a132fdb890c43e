//! The scenario `metrics` runs a Prometheus that scrapes webhook and controllers and evaluates the chart's alerts.
//!
//! It asserts that the metrics pass Prometheus' own lint, that every metric of alerts, dashboard and reference page
//! exists, that no alert fires at first, and that a missed injection fires its alert and no other.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_chart_tests::prometheus;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::prometheus::programs;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{command, images, repository, workload};
use serde_json::{Value, json};

use super::prometheus_server::PrometheusServer;

const NAME: &str = "metrics";
/// Limit for all alerts to stop firing. The rules are evaluated every second, so this allows for a loaded machine.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Namespace for which the API server never calls the webhook.
const MISSED_NAMESPACE: &str = "kube-system";
/// Name of a pod in that namespace with the label for injection.
const MISSED_POD: &str = "metrics-missed";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    cluster.directory()?;
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let pods = system.list(&["pods", "--selector=app.kubernetes.io/name=certmint"])?;
    step("the metrics of each pod pass Prometheus' own lint", || {
        pods.iter().try_for_each(|pod| assert_passes_lint(cluster, pod))
    })?;
    let server = step("Prometheus scrapes webhook and controllers", || {
        let server = PrometheusServer::start(cluster, &scrape_configs(&pods), &rules()?)?;
        server.wait_for_evaluation().map(|()| server)
    })?;
    step("Prometheus counts an issued certificate and a rejected workload", || {
        cause_counted_events(cluster, &kubectl, &server)
    })?;
    step("every metric of page, alerts and dashboard exists, and is on the page", || {
        assert_metrics_documented(&server)
    })?;
    step("every rule is evaluated without an error, and no alert fires", || wait_for_no_alert(&server))?;
    step("a missed injection fires its alert and no other", || assert_only_missed_alert(cluster, &server))
}

/// Returns Prometheus' `scrape_configs` for these pods.
fn scrape_configs(pods: &[Value]) -> Value {
    let targets: Vec<_> = pods
        .iter()
        .map(|pod| {
            let metadata = &pod["metadata"];
            json!({
                "targets": [address(pod)],
                "labels": { "namespace": metadata["namespace"], "pod": metadata["name"] },
            })
        })
        .collect();
    json!([{ "job_name": "certmint", "static_configs": targets }])
}

fn address(pod: &Value) -> String {
    format!("{}:9402", pod["status"]["podIP"].as_str().unwrap_or_default())
}

/// Returns three files of rules: the chart's alerts, the same alerts with a `for` of one second, and the dashboard's
/// expressions as recording rules.
fn rules() -> Result<Vec<Value>> {
    let path = repository::chart().join(prometheus::ALERTS);
    let alerts = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let alerts: Value = serde_saphyr::from_str(&alerts).context("the alerts are not YAML")?;
    let mut with_short_delay = alerts.clone();
    with_short_delay["groups"][0]["name"] = "short-delay".into();
    for rule in with_short_delay["groups"][0]["rules"].as_array_mut().into_iter().flatten() {
        rule["for"] = "1s".into();
        rule["labels"]["short_delay"] = "yes".into();
    }
    let panels: Vec<_> = prometheus::dashboard_expressions()?
        .into_iter()
        .enumerate()
        .map(|(index, expression)| json!({ "record": format!("panel:{index}"), "expr": expression }))
        .collect();
    Ok(vec![alerts, with_short_delay, json!({ "groups": [{ "name": "dashboard", "rules": panels }] })])
}

/// Asserts that `promtool check metrics` accepts a pod's metrics.
///
/// promtool reads the older text format, in which the metadata of a counter has the full name with its suffix. So this
/// function first adds the suffixes to the names in the metadata.
fn assert_passes_lint(cluster: &Cluster, pod: &Value) -> Result<()> {
    let mut curl = cluster.command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
    let metrics = command::output(curl.arg(format!("http://{}/metrics", address(pod))))?;
    let suffixes = [("counter", "_total"), ("info", "_info")];
    let mut text = String::new();
    for line in metrics.lines().filter(|line| !line.starts_with("# EOF")) {
        let mut line = line.to_owned();
        for (kind, suffix) in suffixes {
            let name = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
            let Some(name) = name.and_then(|rest| rest.split(' ').next()).map(str::to_owned) else {
                continue;
            };
            if metrics.contains(&format!("# TYPE {name} {kind}\n")) {
                line = line.replacen(&name, &format!("{name}{suffix}"), 1);
                break;
            }
        }
        text.push_str(&line.replace("_info info", "_info gauge"));
        text.push('\n');
    }
    let mut promtool = cluster.command(&programs(cluster.cache())?.join("promtool").to_string_lossy());
    command::output_with_input(promtool.args(["check", "metrics"]), &text).map(drop)
}

/// Opts a workload in, lets the webhook reject another one, and waits until Prometheus has counted both.
fn cause_counted_events(
    cluster: &Cluster,
    kubectl: &Kubectl<'_>,
    server: &PrometheusServer<'_>,
) -> Result<()> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let opted_in = json!({ "certmint.dev/inject": "true" });
    kubectl.apply(&workload::manifest("deployment", NAME, &image, &opted_in).to_string())?;
    workload::wait_for_rollout(kubectl, NAME)?;
    let wrong = json!({ "certmint.dev/inject": "true", "certmint.dev/duration": "a day" });
    let rejected = kubectl.apply(&workload::manifest("deployment", "rejected", &image, &wrong).to_string());
    ensure!(rejected.is_err(), "the webhook accepted a wrong duration");
    for (what, series) in [
        ("an issued certificate", r#"certmint_certificates_issued_total{reason="first_issue"}"#),
        ("a review with a patch", r#"certmint_webhook_reviews_total{outcome="Patched"}"#),
        ("a rejection", r#"certmint_webhook_refusals_total{code="InvalidAnnotation"}"#),
        ("a created Secret", r#"certmint_api_requests_total{verb="create",resource="secrets",status="201"}"#),
    ] {
        let query = percent_encoded(series);
        wait::until(&format!("{what} to be counted in {series}"), DEFAULT_TIMEOUT, || {
            let found = server.query(&format!("query?query={query}"))?;
            let values = found["result"].as_array().into_iter().flatten();
            let counted = values.filter_map(|sample| sample["value"][1].as_str()).any(|value| value != "0");
            Ok(if counted { Check::Passed(()) } else { Check::NotYet(found["result"].to_string()) })
        })?;
    }
    Ok(())
}

/// Encodes a text for the query part of a URL.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02X}") }
            },
        )
        .collect()
}

/// Asserts that the pods expose every metric of alerts, dashboard and reference page, and that the page has every
/// metric.
fn assert_metrics_documented(server: &PrometheusServer<'_>) -> Result<()> {
    let found = server.query("label/__name__/values")?;
    let found: Vec<_> = found.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let scraped = prometheus::metric_names(&found.join(" "));
    let alerts = fs::read_to_string(repository::chart().join(prometheus::ALERTS))?;
    let used = prometheus::metric_names(&[alerts, prometheus::dashboard_expressions()?.join(" ")].join(" "));
    let documented = prometheus::documented_metrics()?;
    let named: BTreeSet<_> = used.union(&documented).collect();
    let absent: Vec<_> = named.into_iter().filter(|name| !scraped.contains(*name)).collect();
    ensure!(absent.is_empty(), "no pod exposes the metrics {absent:?}");
    let unknown: Vec<_> = scraped.difference(&documented).collect();
    ensure!(unknown.is_empty(), "the page {} lacks the metrics {unknown:?}", prometheus::PAGE);
    Ok(())
}

/// Asserts that every rule is evaluated without an error, and waits until no alert fires.
fn wait_for_no_alert(server: &PrometheusServer<'_>) -> Result<()> {
    for rule in server.rules()? {
        ensure!(rule["health"] == "ok", "the rule {} has an error: {}", rule["name"], rule["lastError"]);
    }
    wait_for_resolved_alerts(server)
}

/// Waits until no alert fires. An alert that fires because there is no data yet ends after the first scrape.
fn wait_for_resolved_alerts(server: &PrometheusServer<'_>) -> Result<()> {
    wait::until("no alert to fire", SETTLE_TIMEOUT, || match firing(server)?.as_slice() {
        [] => Ok(Check::Passed(())),
        alerts => Ok(Check::NotYet(format!("these alerts fire: {}", alerts.join(", ")))),
    })
}

/// Creates a pod with the label for injection in a namespace for which the API server never calls the webhook. Asserts
/// that the alert about missed pods fires, and no other alert.
fn assert_only_missed_alert(cluster: &Cluster, server: &PrometheusServer<'_>) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(MISSED_NAMESPACE);
    let mut pod = workload::manifest("pod", MISSED_POD, "none", &json!({}));
    pod["metadata"]["labels"]["certmint.dev/inject"] = "true".into();
    // No scheduler has this name, so the pod never runs.
    pod["spec"]["schedulerName"] = "none".into();
    kubectl.apply(&pod.to_string())?;
    let fired = wait_for_only_alert(server, "CertmintPodsMissed");
    // The scenario deletes the pod even if the wait failed.
    kubectl.delete(&["pod", MISSED_POD])?;
    fired?;
    wait_for_resolved_alerts(server)
}

/// Waits until an alert fires, and asserts that only `alert` fires.
fn wait_for_only_alert(server: &PrometheusServer<'_>, alert: &str) -> Result<()> {
    let found = wait::until(&format!("{alert} to fire"), DEFAULT_TIMEOUT, || match firing(server)? {
        none if none.is_empty() => Ok(Check::NotYet("no alert fires".to_owned())),
        alerts => Ok(Check::Passed(alerts)),
    })?;
    if found != [alert] {
        bail!("these alerts fire: {}, but only {alert} should fire", found.join(", "));
    }
    Ok(())
}

/// Returns the names of the alerts that fire.
fn firing(server: &PrometheusServer<'_>) -> Result<Vec<String>> {
    let rules = server.rules()?;
    let firing = rules.iter().filter(|rule| rule["state"] == "firing");
    Ok(firing.filter_map(|rule| rule["name"].as_str()).map(str::to_owned).collect())
}
