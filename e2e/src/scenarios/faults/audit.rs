//! What Certmint's accounts asked the API server, as its audit log has it.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::state::AUDIT_LOG;

/// A place in the log, to look at what comes after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(usize);

/// One request.
#[derive(Debug)]
pub(super) struct Request(Value);

impl Mark {
    /// The log's end.
    pub(super) fn now(cluster: &Cluster) -> Result<Self> {
        Ok(Self(log(cluster)?.len()))
    }

    /// What was answered since.
    pub(super) fn since(self, cluster: &Cluster) -> Result<Vec<Request>> {
        let log = log(cluster)?;
        let whole = log.get(self.0..).unwrap_or_default().lines();
        // The last line may be half written.
        Ok(whole.filter_map(|line| serde_json::from_str(line).ok().map(Request)).collect())
    }
}

impl Request {
    /// Whether it came from that pod.
    pub(super) fn is_from(&self, pod: &Value) -> bool {
        let address = &pod["status"]["podIP"];
        self.0["sourceIPs"].as_array().is_some_and(|all| all.contains(address))
    }

    /// Whether it is about objects of that kind, in the plural.
    pub(super) fn concerns(&self, resource: &str) -> bool {
        self.0["objectRef"]["resource"] == resource
    }

    /// Whether it is about something in that namespace.
    pub(super) fn is_in(&self, namespace: &str) -> bool {
        self.0["objectRef"]["namespace"] == namespace
    }

    /// Whether it is meant to change something. To have a token reviewed changes nothing.
    pub(super) fn is_write(&self) -> bool {
        let verb = self.0["verb"].as_str().unwrap_or_default();
        !matches!(verb, "get" | "list" | "watch") && !self.concerns("tokenreviews")
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Value::Object(of) = &self.0["objectRef"] else { return write!(f, "{}", self.0["requestURI"]) };
        let part = |key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default();
        let (verb, code) = (self.0["verb"].as_str().unwrap_or_default(), &self.0["responseStatus"]["code"]);
        write!(f, "{verb} {} {}/{} ({code})", part("resource"), part("namespace"), part("name"))
    }
}

fn log(cluster: &Cluster) -> Result<String> {
    let path = cluster.state()?.path(AUDIT_LOG);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
