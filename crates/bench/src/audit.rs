//! What the controller asked the API server, by the API server's own account.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};

use anyhow::{Context as _, Result, ensure};
use certmint_e2e::cluster::Cluster;
use certmint_e2e::cluster::state::AUDIT_LOG;
use serde::Deserialize;

/// A place in the audit log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(u64);

/// How many requests of a kind there were. Watches and the Lease, which go by time, are not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    /// Secrets created or replaced.
    pub(crate) secrets: usize,
    /// Events created.
    pub(crate) events: usize,
    /// Whatever else changes something.
    pub(crate) other_writes: usize,
    /// Single objects and pages of lists.
    pub(crate) reads: usize,
    /// Tokens reviewed.
    pub(crate) reviews: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Object,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
}

impl Mark {
    /// The log's end.
    pub(crate) fn now(cluster: &Cluster) -> Result<Self> {
        Ok(Self(open(cluster)?.seek(SeekFrom::End(0))?))
    }

    /// What the controller asked since.
    pub(crate) fn since(self, cluster: &Cluster) -> Result<Requests> {
        let mut log = open(cluster)?;
        let length = log.seek(SeekFrom::End(0))?;
        ensure!(
            length >= self.0,
            "the audit log was begun anew: its maxsize is too small for what was asked"
        );
        log.seek(SeekFrom::Start(self.0))?;
        let mut requests = Requests::default();
        for line in BufReader::new(log).lines() {
            // The last line may be half written.
            if let Ok(event) = serde_json::from_str::<Event>(&line?) {
                requests.count(&event);
            }
        }
        Ok(requests)
    }
}

impl Requests {
    /// All that changes something.
    pub(crate) fn writes(&self) -> usize {
        self.secrets + self.events + self.other_writes
    }

    fn count(&mut self, event: &Event) {
        if !event.user.username.ends_with(":certmint-controller") {
            return;
        }
        let counted = match (&*event.verb, &*event.object_ref.resource) {
            ("watch", _) | (_, "leases") => return,
            ("get" | "list", _) => &mut self.reads,
            (_, "tokenreviews") => &mut self.reviews,
            (_, "secrets") => &mut self.secrets,
            (_, "events") => &mut self.events,
            _ => &mut self.other_writes,
        };
        *counted += 1;
    }
}

fn open(cluster: &Cluster) -> Result<File> {
    let path = cluster.state()?.path(AUDIT_LOG);
    File::open(&path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_the_controller_are_counted_by_kind() {
        let mut requests = Requests::default();
        for (verb, account, resource) in [
            ("create", "certmint-controller", "secrets"),
            ("patch", "certmint-controller", "secrets"),
            ("create", "certmint-controller", "events"),
            ("get", "certmint-controller", "secrets"),
            ("watch", "certmint-controller", "secrets"),
            ("update", "certmint-controller", "leases"),
            ("create", "certmint-controller", "tokenreviews"),
            ("create", "certmint-webhook", "secrets"),
        ] {
            let line = format!(
                r#"{{"verb":"{verb}","user":{{"username":"system:serviceaccount:certmint-system:{account}"}},"objectRef":{{"resource":"{resource}"}}}}"#
            );
            requests.count(&serde_json::from_str(&line).unwrap());
        }
        assert_eq!(requests, Requests { secrets: 2, events: 1, other_writes: 0, reads: 1, reviews: 1 });
    }
}
