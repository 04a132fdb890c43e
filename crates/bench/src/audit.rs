//! What the controller asked the API server, by the API server's own account.

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{self, Request};

/// A place in the audit log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(audit::Mark);

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

impl Mark {
    /// The log's end.
    pub(crate) fn now(cluster: &Cluster) -> Result<Self> {
        Ok(Self(audit::Mark::now(cluster)?))
    }

    /// What the controller asked since.
    pub(crate) fn since(self, cluster: &Cluster) -> Result<Requests> {
        let mut requests = Requests::default();
        for request in self.0.since(cluster)? {
            requests.count(&request?);
        }
        Ok(requests)
    }
}

impl Requests {
    /// All that changes something.
    pub(crate) fn writes(&self) -> usize {
        self.secrets + self.events + self.other_writes
    }

    fn count(&mut self, request: &Request) {
        if request.account() != "certmint-controller" {
            return;
        }
        let counted = match (&*request.verb, &*request.object.resource) {
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
