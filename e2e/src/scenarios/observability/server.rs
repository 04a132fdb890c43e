//! A Prometheus beside the cluster's own processes, which scrapes pods by their addresses.

use std::fs;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::state::INSIDE;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{command, prometheus};
use serde_json::{Value, json};

use crate::story::PATIENCE;

/// Where it listens, within the cluster's network.
const ADDRESS: &str = "127.0.0.1:9090";
/// Its directory below the cluster's.
const DIRECTORY: &str = "prometheus";

/// It runs until dropped.
pub(super) struct Server<'a> {
    cluster: &'a Cluster,
    process: Child,
}

impl<'a> Server<'a> {
    /// Starts it on `scrapes` (its `scrape_configs`) and files of rules, both with its second for a minute, and waits
    /// until it answers.
    pub(super) fn start(cluster: &'a Cluster, scrapes: &Value, rules: &[Value]) -> Result<Self> {
        let directory = cluster.state()?.path(DIRECTORY);
        fs::create_dir_all(&directory).context("no directory for Prometheus")?;
        let mut names = Vec::new();
        for (index, file) in rules.iter().enumerate() {
            let name = format!("rules-{index}.yml");
            // JSON is YAML.
            fs::write(directory.join(&name), file.to_string()).context("cannot write rules")?;
            names.push(name);
        }
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": names,
            "scrape_configs": scrapes,
        });
        fs::write(directory.join("prometheus.yml"), configuration.to_string()).context("cannot configure")?;
        let log = fs::File::create(directory.join("log")).context("no log for Prometheus")?;
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
        wait::until("Prometheus to be ready", PATIENCE, || server.fetch("/-/ready").map(Observed::Yes))?;
        Ok(server)
    }

    /// The `data` of an answer of its API.
    pub(super) fn ask(&self, path: &str) -> Result<Value> {
        let answer: Value = serde_json::from_str(&self.fetch(&format!("/api/v1/{path}"))?)?;
        ensure!(answer["status"] == "success", "Prometheus answers {answer}");
        Ok(answer["data"].clone())
    }

    /// Waits until each target was scraped, and every rule evaluated since.
    pub(super) fn has_looked(&self) -> Result<()> {
        wait::until("every target to be scraped", PATIENCE, || {
            let targets = self.ask("targets?state=active")?;
            let bad: Vec<_> = items(&targets["activeTargets"])
                .filter(|target| target["health"] != "up")
                .map(|target| format!("{}: {}", target["scrapeUrl"], target["lastError"]))
                .collect();
            Ok(if bad.is_empty() { Observed::Yes(()) } else { Observed::NotYet(bad.join("; ")) })
        })?;
        wait::until("every rule to be evaluated", PATIENCE, || {
            let waiting = self.rules()?.iter().filter(|rule| rule["health"] == "unknown").count();
            Ok(if waiting == 0 { Observed::Yes(()) } else { Observed::NotYet(format!("{waiting} are not")) })
        })
    }

    /// Every rule with its health and, for an alert, its state.
    pub(super) fn rules(&self) -> Result<Vec<Value>> {
        let groups = self.ask("rules")?;
        Ok(items(&groups["groups"]).flat_map(|group| items(&group["rules"])).cloned().collect())
    }

    fn fetch(&self, path: &str) -> Result<String> {
        let mut curl = self.cluster.command("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--noproxy", "*"]);
        command::output(curl.arg(format!("http://{ADDRESS}{path}")))
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let mut curl = self.cluster.command("curl");
        curl.args(["--silent", "--noproxy", "*", "--request", "POST"]);
        // When it does not hear this, it ends with the cluster.
        if command::output(curl.arg(format!("http://{ADDRESS}/-/quit"))).is_ok() {
            drop(self.process.wait());
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
