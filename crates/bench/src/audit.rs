//! Counts of the controller's API requests, taken from the API server's audit log.

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{self, AuditedRequest};

/// Position in the audit log from which requests are counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(audit::Mark);

/// Numbers of requests by kind. Watches and updates of the Lease are left out, because their number depends on time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestCounts {
    /// Requests that created or replaced a Secret.
    pub(crate) secrets: usize,
    /// Requests that created an Event.
    pub(crate) events: usize,
    /// Other requests that changed an object.
    pub(crate) other_writes: usize,
    /// Requests that read an object or a page of a list.
    pub(crate) reads: usize,
    /// TokenReviews.
    pub(crate) reviews: usize,
}

impl Mark {
    /// Returns the current end of the log.
    pub(crate) fn now(cluster: &Cluster) -> Result<Self> {
        Ok(Self(audit::Mark::now(cluster)?))
    }

    /// Counts the controller's requests since this position.
    pub(crate) fn since(self, cluster: &Cluster) -> Result<RequestCounts> {
        let mut requests = RequestCounts::default();
        for request in self.0.since(cluster)? {
            requests.count(&request?);
        }
        Ok(requests)
    }
}

impl RequestCounts {
    /// Returns the number of requests that changed an object.
    pub(crate) fn writes(&self) -> usize {
        self.secrets + self.events + self.other_writes
    }

    fn count(&mut self, request: &AuditedRequest) {
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
    fn requests_are_counted_by_kind() {
        let mut requests = RequestCounts::default();
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
        assert_eq!(requests, RequestCounts { secrets: 2, events: 1, other_writes: 0, reads: 1, reviews: 1 });
    }
}
