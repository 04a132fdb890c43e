//! Requests of Certmint's service accounts, from the audit log of a local cluster's API server.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::Cluster;
use super::directory::AUDIT_LOG;

/// Position in the audit log, from which later requests can be read.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

/// A request to the API server, with the response's status.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditedRequest {
    /// Verb of the request: `get`, `create`, …
    pub verb: String,
    /// Object of the request.
    #[serde(rename = "objectRef", default)]
    pub object: RequestObject,
    user: User,
    #[serde(rename = "requestURI", default)]
    uri: String,
    #[serde(rename = "sourceIPs", default)]
    sources: Vec<String>,
    #[serde(rename = "responseStatus", default)]
    status: Status,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// Object of a request. Fields that the request does not name are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RequestObject {
    /// Namespace of the object.
    pub namespace: String,
    /// API group; empty for the core group.
    pub api_group: String,
    /// Resource: the object's kind in the plural.
    pub resource: String,
    /// Subresource of the object.
    pub subresource: String,
    /// Name of the object.
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl Mark {
    /// Position before the first request.
    pub const START: Self = Self(0);

    /// Returns the current end of the log.
    ///
    /// # Errors
    /// When the cluster is not a local one, or its log cannot be read.
    pub fn now(cluster: &Cluster) -> Result<Self> {
        Ok(Self(open(cluster)?.seek(SeekFrom::End(0))?))
    }

    /// Returns the requests after this position.
    ///
    /// # Errors
    /// When the cluster is not a local one, or its log cannot be read or was rotated. An item is an error when
    /// its line is not an audit event.
    pub fn since(self, cluster: &Cluster) -> Result<impl Iterator<Item = Result<AuditedRequest>> + use<>> {
        self.read(open(cluster)?)
    }

    fn read<L: Read + Seek>(
        self,
        mut log: L,
    ) -> Result<impl Iterator<Item = Result<AuditedRequest>> + use<L>> {
        let length = log.seek(SeekFrom::End(0))?;
        ensure!(length >= self.0, "the audit log was rotated: increase its maxsize");
        log.seek(SeekFrom::Start(self.0.saturating_sub(1)))?;
        let mut log = BufReader::new(log);
        if self.0 > 0 {
            // If the position is in the middle of a line, the rest of that line is skipped. Reading starts one byte
            // before the position, so that a line that begins at the position is not skipped.
            log.skip_until(b'\n')?;
        }
        Ok(requests(log))
    }
}

impl AuditedRequest {
    /// Returns the name of the service account.
    #[must_use]
    pub fn account(&self) -> &str {
        self.user.username.rsplit(':').next().unwrap_or_default()
    }

    /// Returns whether the account's permissions allowed the request.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.annotations.get("authorization.k8s.io/decision").is_some_and(|decision| decision == "allow")
    }

    /// Returns whether both requests have the same account, verb and object.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.account() == other.account() && self.verb == other.verb && self.object == other.object
    }

    /// Returns whether the request came from `pod`.
    #[must_use]
    pub fn is_from(&self, pod: &Value) -> bool {
        let address = pod["status"]["podIP"].as_str();
        self.sources.iter().any(|source| Some(source.as_str()) == address)
    }

    /// Returns whether the request is about objects of that resource.
    #[must_use]
    pub fn concerns(&self, resource: &str) -> bool {
        self.object.resource == resource
    }

    /// Returns whether the request is about an object in that namespace.
    #[must_use]
    pub fn is_in(&self, namespace: &str) -> bool {
        self.object.namespace == namespace
    }

    /// Returns whether the request changes an object. A TokenReview is created but changes nothing.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(&*self.verb, "get" | "list" | "watch") && !self.concerns("tokenreviews")
    }

    /// Returns whether the API server answered that another write was first (409), so that the request changed nothing.
    #[must_use]
    pub fn was_in_conflict(&self) -> bool {
        self.status.code == 409
    }
}

impl fmt::Display for AuditedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, object, uri, status: Status { code }, .. } = self;
        let RequestObject { namespace, api_group: _, resource, subresource, name } = object;
        match (&**resource, &**subresource) {
            ("", _) => write!(f, "{verb} {uri} ({code})"),
            (_, "") => write!(f, "{verb} {resource} {namespace}/{name} ({code})"),
            _ => write!(f, "{verb} {resource}/{subresource} {namespace}/{name} ({code})"),
        }
    }
}

fn open(cluster: &Cluster) -> Result<File> {
    let path = cluster.directory()?.path(AUDIT_LOG);
    File::open(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Parses each complete line. A line that is still being written is left for the next call.
fn requests(mut log: impl BufRead) -> impl Iterator<Item = Result<AuditedRequest>> {
    std::iter::from_fn(move || {
        let mut line = String::new();
        match log.read_line(&mut line) {
            Ok(_) if !line.ends_with('\n') => None,
            Ok(_) => Some(serde_json::from_str(&line).with_context(|| format!("not an audit event: {line}"))),
            Err(error) => Some(Err(error.into())),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const LINE: &str = r#"{"kind":"Event","verb":"get","user":{"username":"system:serviceaccount:certmint-system:certmint-controller"},"sourceIPs":["198.18.0.7"],"objectRef":{"resource":"secrets","namespace":"shop","name":"a","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":403},"annotations":{"authorization.k8s.io/decision":"forbid"}}"#;

    #[test]
    fn a_line_is_a_request() {
        let request: AuditedRequest = serde_json::from_str(LINE).unwrap();
        assert_eq!((request.account(), request.is_allowed()), ("certmint-controller", false));
        assert_eq!((&*request.object.resource, &*request.object.api_group), ("secrets", ""));
        assert!(request.is_from(&serde_json::json!({ "status": { "podIP": "198.18.0.7" } })));
        assert!(!request.is_from(&Value::Null));
        assert_eq!(request.to_string(), "get secrets shop/a (403)");
    }

    #[test]
    fn only_complete_lines_are_read() {
        let log = format!("{LINE}\n{LINE}\n{}", LINE.get(..40).unwrap());
        assert_eq!(requests(log.as_bytes()).collect::<Result<Vec<_>>>().unwrap().len(), 2);
        assert!(requests(&b"oops\n"[..]).next().unwrap().is_err());
    }

    #[test]
    fn a_mark_skips_the_line_that_was_begun_before_it() {
        let log = format!("{LINE}\n{LINE}\n");
        let after = |mark| Mark(mark).read(Cursor::new(&log)).map(Iterator::count).ok();
        let line = LINE.len() as u64;
        assert_eq!([0, 7, line, line + 1, line + 2].map(after), [2, 1, 1, 1, 0].map(Some));
        assert_eq!(after(2 * line + 3), None);
    }
}
