//! A watch that records every change of Certmint's Secrets in a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use serde_json::Value;

/// A running watch, and the changes that it has recorded.
#[derive(Debug)]
pub(super) struct SecretHistory {
    watch: Child,
    record: Arc<Mutex<Record>>,
}

#[derive(Debug, Default)]
struct Record {
    /// Changes of each Secret by name: the type of the event, and the serial number of the certificate after it.
    secrets: BTreeMap<String, Vec<String>>,
    /// Reason why the record is not complete.
    error: Option<String>,
}

impl SecretHistory {
    /// Starts to watch the Secrets of Certmint in `namespace`.
    pub(super) fn start(kubectl: &Kubectl<'_>, namespace: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        let list: Value = serde_json::from_str(&kubectl.run(&["get", "--raw", &path])?)?;
        let version =
            list["metadata"]["resourceVersion"].as_str().context("the list has no resourceVersion")?;
        let selector = "labelSelector=certmint.dev%2Fmanaged%3Dtrue";
        let path = format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=3600&{selector}");
        let mut watch = kubectl.command(&["get", "--raw", &path]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().context("cannot start kubectl")?;
        let lines = BufReader::new(watch.stdout.take().context("kubectl has no output")?).lines();
        let record = Arc::<Mutex<Record>>::default();
        thread::spawn({
            let record = Arc::clone(&record);
            move || {
                for line in lines {
                    lock(&record).add(line.map_err(|error| error.to_string()));
                }
                lock(&record).error.get_or_insert("the watch of Secrets has ended".to_owned());
            }
        });
        Ok(Self { watch, record })
    }

    /// Returns the number of Secrets that were created.
    pub(super) fn count(&self) -> usize {
        lock(&self.record).secrets.len()
    }

    /// Waits until at least `count` Secrets were created.
    pub(super) fn wait_for_count(&self, count: usize) -> Result<()> {
        wait::until(&format!("{count} Secrets"), DEFAULT_TIMEOUT, || {
            let created = self.count();
            Ok(if created >= count { Check::Passed(()) } else { Check::NotYet(format!("{created} Secrets")) })
        })
    }

    /// Asserts that `count` Secrets exist, that each was created once and not changed, and that all have different
    /// certificates.
    pub(super) fn assert_each_issued_once(&self, count: usize) -> Result<()> {
        let record = lock(&self.record);
        if let Some(error) = &record.error {
            bail!("the history of the Secrets is not complete: {error}");
        }
        for (name, changes) in &record.secrets {
            ensure!(
                changes.len() == 1 && changes.iter().all(|change| change.starts_with("ADDED ")),
                "Secret {name} should have been created once and not changed, but its changes were: {}",
                changes.join(", ")
            );
        }
        let serials: BTreeSet<&String> = record.secrets.values().flatten().collect();
        ensure!(
            record.secrets.len() == count && serials.len() == count,
            "of {count} workloads, {} have a Secret, with {} serial numbers",
            record.secrets.len(),
            serials.len()
        );
        Ok(())
    }
}

impl Record {
    /// Adds an event of the watch, which is a line of JSON.
    fn add(&mut self, line: Result<String, String>) {
        let event =
            line.and_then(|line| serde_json::from_str::<Value>(&line).map_err(|error| error.to_string()));
        match event {
            Err(error) => self.error = Some(error),
            Ok(event) if event["type"] == "ERROR" => self.error = Some(event["object"].to_string()),
            Ok(event) => {
                let metadata = &event["object"]["metadata"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let serial = text(&metadata["annotations"]["certmint.dev/serial"]);
                let change = format!("{} {serial}", text(&event["type"]));
                self.secrets.entry(text(&metadata["name"])).or_default().push(change);
            }
        }
    }
}

impl Drop for SecretHistory {
    fn drop(&mut self) {
        // An error means that the watch has ended already.
        let _ = self.watch.kill().and_then(|()| self.watch.wait());
    }
}

fn lock(record: &Mutex<Record>) -> std::sync::MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
