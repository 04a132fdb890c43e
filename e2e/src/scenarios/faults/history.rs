//! Everything that ever happened to the Secrets of a namespace, as a watch from its beginning tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Observed};
use serde_json::Value;

use crate::story::PATIENCE;

/// A watch that remembers.
#[derive(Debug)]
pub(super) struct History {
    watch: Child,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    /// What happened to each Secret, with the serial number that it had then.
    secrets: BTreeMap<String, Vec<String>>,
    /// What else came, such as the watch's end.
    fault: Option<String>,
}

impl History {
    /// Watches the Secrets that Certmint makes in `namespace`.
    pub(super) fn start(kubectl: &Kubectl<'_>, namespace: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        let list: Value = serde_json::from_str(&kubectl.run(&["get", "--raw", &path])?)?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a list has a version")?;
        let selector = "labelSelector=certmint.dev%2Fmanaged%3Dtrue";
        let path = format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=3600&{selector}");
        let mut watch = kubectl.command(&["get", "--raw", &path]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().context("cannot start a watch")?;
        let lines = BufReader::new(watch.stdout.take().context("a watch has an output")?).lines();
        let told = Arc::<Mutex<Told>>::default();
        thread::spawn({
            let told = Arc::clone(&told);
            move || {
                for line in lines {
                    lock(&told).hear(line.map_err(|why| why.to_string()));
                }
                lock(&told).fault.get_or_insert("the watch of Secrets has ended".to_owned());
            }
        });
        Ok(Self { watch, told })
    }

    /// How many Secrets were made.
    pub(super) fn made(&self) -> usize {
        lock(&self.told).secrets.len()
    }

    /// Waits until that many Secrets were made.
    pub(super) fn await_made(&self, count: usize) -> Result<()> {
        wait::until(&format!("{count} Secrets"), PATIENCE, || {
            let made = self.made();
            Ok(if made >= count { Observed::Yes(()) } else { Observed::NotYet(format!("{made} of them")) })
        })
    }

    /// Passes when there are that many Secrets, each made once and never touched since, and each with a
    /// certificate of its own.
    pub(super) fn each_issued_once(&self, count: usize) -> Result<()> {
        let told = lock(&self.told);
        if let Some(fault) = &told.fault {
            bail!("what happened is not known: {fault}");
        }
        for (name, events) in &told.secrets {
            ensure!(
                events.len() == 1 && events.iter().all(|event| event.starts_with("ADDED ")),
                "Secret {name} should have been made once and left alone, but this happened: {}",
                events.join(", ")
            );
        }
        let serials: BTreeSet<&String> = told.secrets.values().flatten().collect();
        ensure!(
            told.secrets.len() == count && serials.len() == count,
            "of {count} workloads, {} have a Secret, with {} serial numbers",
            told.secrets.len(),
            serials.len()
        );
        Ok(())
    }
}

impl Told {
    fn hear(&mut self, line: Result<String, String>) {
        let event = line.and_then(|line| serde_json::from_str::<Value>(&line).map_err(|why| why.to_string()));
        match event {
            Err(why) => self.fault = Some(why),
            Ok(event) if event["type"] == "ERROR" => self.fault = Some(event["object"].to_string()),
            Ok(event) => {
                let metadata = &event["object"]["metadata"];
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let serial = word(&metadata["annotations"]["certmint.dev/serial"]);
                let happened = format!("{} {serial}", word(&event["type"]));
                self.secrets.entry(word(&metadata["name"])).or_default().push(happened);
            }
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        // It is our own child; that it has ended already is no failure.
        let _ = self.watch.kill().and_then(|()| self.watch.wait());
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
