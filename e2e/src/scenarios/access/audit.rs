//! What Certmint's accounts have asked the API server, from its audit log.

use std::collections::HashMap;
use std::fmt;
use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::cluster::state::AUDIT_LOG;

/// One request of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// The service account's name.
    pub(super) account: String,
    /// Whether its rights let it through.
    pub(super) allowed: bool,
    /// What it asked for.
    pub(super) verb: String,
    /// Of what.
    pub(super) object: Object,
}

/// What a request is about; what it does not name is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Object {
    pub(super) namespace: String,
    pub(super) api_group: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

/// Every request up to now; a line that is still being written is left to the next time.
pub(super) fn requests(cluster: &Cluster) -> Result<Vec<Request>> {
    let log = cluster.state()?.path(AUDIT_LOG);
    let text = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| request(line).with_context(|| format!("the audit log has {line}"))).collect()
}

fn request(line: &str) -> Result<Request> {
    let Event { verb, user, object_ref, annotations } = serde_json::from_str(line)?;
    let account = user.username.rsplit(':').next().unwrap_or_default().to_owned();
    let allowed =
        annotations.get("authorization.k8s.io/decision").is_some_and(|decision| decision == "allow");
    Ok(Request { account, allowed, verb, object: object_ref })
}

impl Request {
    /// Whether the other asks for the same.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.account == other.account && self.verb == other.verb && self.object == other.object
    }
}

impl fmt::Display for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Object { namespace, api_group, resource, subresource, name } = &self.object;
        let (account, verb) = (&self.account, &self.verb);
        write!(
            out,
            "{account} may not {verb} {resource} {subresource} {name:?} (API group {api_group:?}) in {namespace:?}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_request() {
        let line = r#"{"kind":"Event","verb":"get","user":{"username":"system:serviceaccount:certmint-system:certmint-controller"},"objectRef":{"resource":"secrets","namespace":"shop","name":"a","apiVersion":"v1"},"annotations":{"authorization.k8s.io/decision":"forbid"}}"#;
        let request = request(line).unwrap();
        assert_eq!((&*request.account, request.allowed), ("certmint-controller", false));
        assert_eq!((&*request.object.resource, &*request.object.api_group), ("secrets", ""));
    }
}
