//! A real Prometheus scrapes the real installation.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_chart_tests::prometheus;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::prometheus::programs;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{command, images, repository, workload};
use serde_json::{Value, json};

use super::server::Server;
use crate::story::PATIENCE;

const NAME: &str = "metrics";
/// Many evaluations of a second each, on a loaded machine.
const SETTLED: Duration = Duration::from_secs(60);
/// A pod that should have been injected; in its namespace no webhook is ever called.
const MISSED: (&str, &str) = ("kube-system", "metrics-missed");

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    cluster.state()?;
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let pods = system.list(&["pods", "--selector=app.kubernetes.io/name=certmint"])?;
    step("what the pods show passes Prometheus' own lint", || {
        pods.iter().try_for_each(|pod| passes_lint(cluster, pod))
    })?;
    let server = step("a Prometheus scrapes webhook and controllers", || {
        let server = Server::start(cluster, &scrapes(&pods), &rules()?)?;
        server.has_looked().map(|()| server)
    })?;
    step("something is issued, something refused", || something_happens(cluster, &kubectl, &server))?;
    step("every metric of page, alerts and dashboard is there, and on the page", || all_there(&server))?;
    step("every rule is evaluated without an error, and no alert fires", || quiet(&server))?;
    step("a pod that was missed fires its alert, and no other", || missed(cluster, &server))
}

fn scrapes(pods: &[Value]) -> Value {
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

/// The chart's alerts as they stand and, marked, without their patience; the dashboard's expressions.
fn rules() -> Result<Vec<Value>> {
    let path = repository::chart().join(prometheus::ALERTS);
    let alerts = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let alerts: Value = serde_saphyr::from_str(&alerts).context("the alerts are not YAML")?;
    let mut hasty = alerts.clone();
    hasty["groups"][0]["name"] = "hasty".into();
    for rule in hasty["groups"][0]["rules"].as_array_mut().into_iter().flatten() {
        rule["for"] = "1s".into();
        rule["labels"]["hasty"] = "yes".into();
    }
    let panels: Vec<_> = prometheus::dashboard_expressions()?
        .into_iter()
        .enumerate()
        .map(|(index, expression)| json!({ "record": format!("panel:{index}"), "expr": expression }))
        .collect();
    Ok(vec![alerts, hasty, json!({ "groups": [{ "name": "dashboard", "rules": panels }] })])
}

/// The lint reads the older text format, in which a counter's metadata bear its whole name.
fn passes_lint(cluster: &Cluster, pod: &Value) -> Result<()> {
    let mut curl = cluster.command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
    let shown = command::output(curl.arg(format!("http://{}/metrics", address(pod))))?;
    let suffixes = [("counter", "_total"), ("info", "_info")];
    let mut text = String::new();
    for line in shown.lines().filter(|line| !line.starts_with("# EOF")) {
        let mut line = line.to_owned();
        for (kind, suffix) in suffixes {
            let name = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
            let Some(name) = name.and_then(|rest| rest.split(' ').next()).map(str::to_owned) else {
                continue;
            };
            if shown.contains(&format!("# TYPE {name} {kind}\n")) {
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

/// A workload opts in, and another is refused; Prometheus sees both as increases.
fn something_happens(cluster: &Cluster, kubectl: &Kubectl<'_>, server: &Server<'_>) -> Result<()> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let opted_in = json!({ "certmint.dev/inject": "true" });
    kubectl.apply(&workload::manifest("deployment", NAME, &image, &opted_in).to_string())?;
    workload::rolled_out(kubectl, NAME)?;
    let wrong = json!({ "certmint.dev/inject": "true", "certmint.dev/duration": "a day" });
    let refused = kubectl.apply(&workload::manifest("deployment", "refused", &image, &wrong).to_string());
    ensure!(refused.is_err(), "a wrong duration was taken");
    for (what, series) in [
        ("a certificate issued", r#"certmint_certificates_issued_total{reason="first_issue"}"#),
        ("a review that patched", r#"certmint_webhook_reviews_total{outcome="Patched"}"#),
        ("a refusal", r#"certmint_webhook_refusals_total{code="InvalidAnnotation"}"#),
        ("a Secret created", r#"certmint_api_requests_total{verb="create",resource="secrets",status="201"}"#),
    ] {
        let query: String =
            series
                .bytes()
                .map(|byte| {
                    if byte.is_ascii_alphanumeric() {
                        char::from(byte).into()
                    } else {
                        format!("%{byte:02X}")
                    }
                })
                .collect();
        wait::until(&format!("{what} to be seen as {series}"), PATIENCE, || {
            let found = server.ask(&format!("query?query={query}"))?;
            let values = found["result"].as_array().into_iter().flatten();
            let counted = values.filter_map(|sample| sample["value"][1].as_str()).any(|value| value != "0");
            Ok(if counted { Observed::Yes(()) } else { Observed::NotYet(found["result"].to_string()) })
        })?;
    }
    Ok(())
}

fn all_there(server: &Server<'_>) -> Result<()> {
    let found = server.ask("label/__name__/values")?;
    let found: Vec<_> = found.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let scraped = prometheus::names(&found.join(" "));
    let alerts = fs::read_to_string(repository::chart().join(prometheus::ALERTS))?;
    let used = prometheus::names(&[alerts, prometheus::dashboard_expressions()?.join(" ")].join(" "));
    let documented = prometheus::documented()?;
    let named: BTreeSet<_> = used.union(&documented).collect();
    let absent: Vec<_> = named.into_iter().filter(|name| !scraped.contains(*name)).collect();
    ensure!(absent.is_empty(), "no pod shows {absent:?}");
    let unknown: Vec<_> = scraped.difference(&documented).collect();
    ensure!(unknown.is_empty(), "{} does not have {unknown:?}", prometheus::PAGE);
    Ok(())
}

fn quiet(server: &Server<'_>) -> Result<()> {
    for rule in server.rules()? {
        ensure!(rule["health"] == "ok", "{} is not evaluated: {}", rule["name"], rule["lastError"]);
    }
    settles(server)
}

/// What fired before the first scrape, for there was nothing yet, ends with the next evaluation.
fn settles(server: &Server<'_>) -> Result<()> {
    wait::until("no alert to fire", SETTLED, || match firing(server)?.as_slice() {
        [] => Ok(Observed::Yes(())),
        some => Ok(Observed::NotYet(format!("{} fires", some.join(", ")))),
    })
}

fn missed(cluster: &Cluster, server: &Server<'_>) -> Result<()> {
    let (place, name) = MISSED;
    let kubectl = cluster.kubectl().namespace(place);
    let mut pod = workload::manifest("pod", name, "none", &json!({}));
    pod["metadata"]["labels"]["certmint.dev/inject"] = "true".into();
    // It is never to run.
    pod["spec"]["schedulerName"] = "nobody".into();
    kubectl.apply(&pod.to_string())?;
    let fired = fires_alone(server, "CertmintPodsMissed");
    kubectl.delete(&["pod", name])?;
    fired?;
    settles(server)
}

fn fires_alone(server: &Server<'_>, alert: &str) -> Result<()> {
    let fires = wait::until(&format!("{alert} to fire"), PATIENCE, || match firing(server)? {
        none if none.is_empty() => Ok(Observed::NotYet("no alert fires".to_owned())),
        some => Ok(Observed::Yes(some)),
    })?;
    if fires != [alert] {
        bail!("{} fire", fires.join(", "));
    }
    Ok(())
}

fn firing(server: &Server<'_>) -> Result<Vec<String>> {
    let rules = server.rules()?;
    let firing = rules.iter().filter(|rule| rule["state"] == "firing");
    Ok(firing.filter_map(|rule| rule["name"].as_str()).map(str::to_owned).collect())
}
