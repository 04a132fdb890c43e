//! Tests of NetworkPolicies, ServiceMonitors, PrometheusRules and the dashboard in the rendered objects.
//!
//! A local cluster does not enforce NetworkPolicies, so only their ports and selectors are checked.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cache::Cache;
use serde_json::{Value, json};

use crate::chart::read;
use crate::manifest::{Manifest, items, selects, title};
use crate::prometheus::{self, ALERTS, DASHBOARD};
use crate::value_sets::ValueSet;

pub(crate) fn check(manifest: &Manifest, set: &ValueSet) -> Result<()> {
    let policies: Vec<_> = manifest.of_kind("NetworkPolicy").collect();
    let is_enabled = set.arguments.iter().any(|value| value.starts_with("networkPolicy"));
    ensure!(policies.len() == if is_enabled { 2 } else { 0 }, "there are {} NetworkPolicies", policies.len());
    for policy in policies {
        check_network_policy(manifest, policy, set).with_context(|| title(policy))?;
    }
    let is_enabled = set.arguments.iter().any(|value| value.starts_with("serviceMonitor"));
    let monitors: Vec<_> = manifest.of_kind("ServiceMonitor").collect();
    ensure!(monitors.len() == usize::from(is_enabled), "there are {} ServiceMonitors", monitors.len());
    monitors
        .into_iter()
        .try_for_each(|monitor| check_monitor(manifest, monitor).with_context(|| title(monitor)))?;
    let is_enabled = set.arguments.iter().any(|value| value.starts_with("prometheusRule"));
    let rules = manifest.of_kind("PrometheusRule").count();
    ensure!(rules == usize::from(is_enabled), "there are {rules} PrometheusRules");
    let is_enabled = set.arguments.iter().any(|value| value.starts_with("grafanaDashboard"));
    let dashboards: Vec<_> = manifest.of_kind("ConfigMap").filter(|map| is_dashboard(map)).collect();
    ensure!(dashboards.len() == usize::from(is_enabled), "there are {} dashboards", dashboards.len());
    dashboards.into_iter().try_for_each(|map| check_dashboard(map).with_context(|| title(map)))
}

/// Checks that Prometheus accepts the rendered rules, both the chart's and the user's.
pub(crate) fn rules_parse(cache: &Cache, manifest: &Manifest, set: &ValueSet) -> Result<()> {
    for rule in manifest.of_kind("PrometheusRule") {
        let groups = items(&rule["spec"]["groups"]);
        let mut alerts: Value = serde_saphyr::from_str(&read(ALERTS)?).context("the alerts are not YAML")?;
        if set.mentions("runbookUrl") {
            publish_runbooks(&mut alerts);
        }
        ensure!(groups.starts_with(items(&alerts["groups"])), "{} lacks alerts of the chart", title(rule));
        prometheus::rules_parse(cache, &rule["spec"])?;
    }
    Ok(())
}

/// Replaces the runbook path of every alert with the URL that the chart derives from the `runbookUrl` of the value set.
fn publish_runbooks(alerts: &mut Value) {
    let groups = alerts["groups"].as_array_mut().into_iter().flatten();
    for rule in groups.flat_map(|group| group["rules"].as_array_mut().into_iter().flatten()) {
        let heading = rule["alert"].as_str().unwrap_or_default().to_lowercase();
        rule["annotations"]["runbook_url"] = json!(format!("https://book.example/runbooks.html#{heading}"));
    }
}

fn is_dashboard(map: &Value) -> bool {
    map["metadata"]["labels"]["grafana_dashboard"] == "1"
}

/// Checks that the ConfigMap contains the chart's dashboard in a file that Grafana finds by its extension.
fn check_dashboard(map: &Value) -> Result<()> {
    let file = map["data"]["certmint.json"].as_str().context("it has no certmint.json")?;
    ensure!(file.trim_end() == read(DASHBOARD)?.trim_end(), "it is not {DASHBOARD}");
    Ok(())
}

fn check_network_policy(manifest: &Manifest, policy: &Value, set: &ValueSet) -> Result<()> {
    let spec = &policy["spec"];
    let selected: Vec<_> = manifest
        .of_kind("Deployment")
        .filter(|deployment| {
            selects(
                &spec["podSelector"]["matchLabels"],
                &deployment["spec"]["template"]["metadata"]["labels"],
            )
        })
        .collect();
    let [deployment] = selected.as_slice() else {
        anyhow::bail!("it selects {} Deployments", selected.len())
    };
    ensure!(spec["policyTypes"] == json!(["Ingress", "Egress"]), "it does not restrict both directions");
    let container_ports: Vec<_> = items(&deployment["spec"]["template"]["spec"]["containers"])
        .iter()
        .flat_map(|container| items(&container["ports"]))
        .collect();
    let port_by_name = |name: &str| {
        container_ports.iter().find(|port| port["name"] == name).map(|port| &port["containerPort"])
    };
    let ingress = items(&spec["ingress"]);
    for rule in ingress {
        for port in items(&rule["ports"]) {
            let found =
                container_ports.iter().any(|container_port| container_port["containerPort"] == port["port"]);
            ensure!(found, "no container has the port {port}");
        }
    }
    let peers = |port: &str| {
        let port = port_by_name(port)?;
        ingress
            .iter()
            .find(|rule| items(&rule["ports"]).iter().any(|allowed| allowed["port"] == *port))
            .map(|rule| &rule["from"])
    };
    let https_peers = peers("https").context("no peer may reach the served port")?;
    let metrics_peers = peers("metrics");
    ensure!(metrics_peers.is_none_or(|from| !items(from).is_empty()), "every peer may read the metrics");
    let allows_no_readers = set.mentions(r#""metricsFrom":[]"#);
    ensure!(
        metrics_peers.is_none() == allows_no_readers,
        "the rules do not allow exactly the configured readers of metrics: {ingress:?}"
    );
    if deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "webhook" {
        ensure!(https_peers.is_null(), "API servers are limited to {https_peers}");
        ensure!(spec["egress"] == json!([]), "the webhook may connect to {}", spec["egress"]);
        return Ok(());
    }
    let callers = match set.namespaces {
        [] => json!({ "namespaceSelector": {} }),
        some => json!({ "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "In", "values": some },
        ] } }),
    };
    ensure!(
        items(https_peers).first() == Some(&callers),
        "served pods may not reach the issuance API: {https_peers}"
    );
    let egress_ports: Vec<_> = items(&spec["egress"])
        .iter()
        .flat_map(|rule| items(&rule["ports"]))
        .map(|port| &port["port"])
        .collect();
    ensure!(egress_ports == [443, 6443, 53, 53], "the controller may connect to the ports {egress_ports:?}");
    Ok(())
}

/// Checks that the ServiceMonitor selects one Service of each component, and a port that the Service has.
fn check_monitor(manifest: &Manifest, monitor: &Value) -> Result<()> {
    let selector = &monitor["spec"]["selector"]["matchLabels"];
    let found: Vec<_> = manifest
        .of_kind("Service")
        .filter(|service| selects(selector, &service["metadata"]["labels"]))
        .collect();
    ensure!(found.len() == 2, "it selects {} Services", found.len());
    for endpoint in items(&monitor["spec"]["endpoints"]) {
        for service in &found {
            let named = items(&service["spec"]["ports"]).iter().any(|port| port["name"] == endpoint["port"]);
            ensure!(named, "{} has no port {}", title(service), endpoint["port"]);
        }
    }
    Ok(())
}
