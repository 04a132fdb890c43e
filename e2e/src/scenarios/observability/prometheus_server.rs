//! A Prometheus server that runs next to the processes of the local cluster and scrapes pods by their addresses.

use std::fs;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::directory::INSIDE;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{command, prometheus};
use serde_json::{Value, json};

/// Address of the server in the cluster's network.
const ADDRESS: &str = "127.0.0.1:9090";
/// Name of the server's directory in the cluster's directory.
const DIRECTORY: &str = "prometheus";

/// A running Prometheus server. It is stopped on drop.
pub(super) struct PrometheusServer<'a> {
    cluster: &'a Cluster,
    process: Child,
}

impl<'a> PrometheusServer<'a> {
    /// Starts the server with these `scrape_configs` and files of rules, and waits until it answers. It scrapes and
    /// evaluates every second, instead of every minute, which is the default.
    pub(super) fn start(cluster: &'a Cluster, scrape_configs: &Value, rules: &[Value]) -> Result<Self> {
        let directory = cluster.directory()?.path(DIRECTORY);
        fs::create_dir_all(&directory).context("cannot create a directory for Prometheus")?;
        let mut names = Vec::new();
        for (index, file) in rules.iter().enumerate() {
            let name = format!("rules-{index}.yml");
            // Prometheus reads YAML, and JSON is valid YAML.
            fs::write(directory.join(&name), file.to_string()).context("cannot write the rules")?;
            names.push(name);
        }
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": names,
            "scrape_configs": scrape_configs,
        });
        fs::write(directory.join("prometheus.yml"), configuration.to_string())
            .context("cannot write prometheus.yml")?;
        let log = fs::File::create(directory.join("log")).context("cannot create the log of Prometheus")?;
        let program = prometheus::programs(cluster.cache())?.join("prometheus");
        let process = cluster
            .command(&program.to_string_lossy())
            .arg(format!("--config.file={INSIDE}/{DIRECTORY}/prometheus.yml"))
            .arg(format!("--storage.tsdb.path={INSIDE}/{DIRECTORY}/data"))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .args(["--web.enable-lifecycle", "--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start Prometheus")?;
        let server = Self { cluster, process };
        wait::until("Prometheus to be ready", DEFAULT_TIMEOUT, || {
            server.fetch("/-/ready").map(Check::Passed)
        })?;
        Ok(server)
    }

    /// Sends a request to Prometheus' API, and returns the `data` of the response.
    pub(super) fn query(&self, path: &str) -> Result<Value> {
        let response: Value = serde_json::from_str(&self.fetch(&format!("/api/v1/{path}"))?)?;
        ensure!(response["status"] == "success", "Prometheus answered {response}");
        Ok(response["data"].clone())
    }

    /// Waits until each target was scraped, and every rule was evaluated after that.
    pub(super) fn wait_for_evaluation(&self) -> Result<()> {
        wait::until("every target to be scraped", DEFAULT_TIMEOUT, || {
            let targets = self.query("targets?state=active")?;
            let failing: Vec<_> = items(&targets["activeTargets"])
                .filter(|target| target["health"] != "up")
                .map(|target| format!("{}: {}", target["scrapeUrl"], target["lastError"]))
                .collect();
            Ok(if failing.is_empty() { Check::Passed(()) } else { Check::NotYet(failing.join("; ")) })
        })?;
        wait::until("every rule to be evaluated", DEFAULT_TIMEOUT, || {
            let waiting = self.rules()?.iter().filter(|rule| rule["health"] == "unknown").count();
            Ok(if waiting == 0 {
                Check::Passed(())
            } else {
                Check::NotYet(format!("{waiting} rules are not evaluated"))
            })
        })
    }

    /// Returns every rule with its health and, for an alert, its state.
    pub(super) fn rules(&self) -> Result<Vec<Value>> {
        let groups = self.query("rules")?;
        Ok(items(&groups["groups"]).flat_map(|group| items(&group["rules"])).cloned().collect())
    }

    fn fetch(&self, path: &str) -> Result<String> {
        let mut curl = self.cluster.command("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--noproxy", "*"]);
        command::output(curl.arg(format!("http://{ADDRESS}{path}")))
    }
}

impl Drop for PrometheusServer<'_> {
    fn drop(&mut self) {
        let mut curl = self.cluster.command("curl");
        curl.args(["--silent", "--noproxy", "*", "--request", "POST"]);
        // If the request fails, Prometheus ends with the cluster.
        if command::output(curl.arg(format!("http://{ADDRESS}/-/quit"))).is_ok() {
            drop(self.process.wait());
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
