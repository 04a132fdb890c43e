//! What a cluster is filled with.

use std::ops::Range;

use anyhow::Result;
use certmint_contract::keys;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::workload;
use serde_json::{Value, json};

use super::{CLIENTS, PATTERN};
use crate::inside::{Pace, Task, Verb, Write};

/// The Secret of [`pattern`].
pub(super) const PATTERN_SECRET: &str = "payments-certmint-tls";
/// Each copy of it.
const COPY: &str = "payments-copy-{index}";

/// A first workload with its Service.
pub(super) fn pattern() -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": [workload::service("payments"), cron_job("payments", "payments")] })
}

/// Workloads, a hundred in each namespace, of which each ten share a headless Service, so that all have names. They
/// are CronJobs that never come due: nobody but Certmint has work with them.
pub(super) fn workloads(cluster: &Cluster, numbers: Range<usize>) -> Result<Pace> {
    let create = |path: &str, body: &Value, step| {
        let (path, body) = (path.to_owned(), body.to_string());
        let numbers = numbers.clone();
        let create = Write { verb: Verb::Create, path, body, numbers, step, clients: CLIENTS };
        Task::Write(create).run::<Pace>(cluster)
    };
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "bench-{hundred}" } });
    create("/api/v1/namespaces", &namespace, 100)?;
    create("/api/v1/namespaces/bench-{hundred}/services", &workload::service("group-{ten}"), 10)?;
    let workload = cron_job("payments-{index}", "group-{ten}");
    create("/apis/batch/v1/namespaces/bench-{hundred}/cronjobs", &workload, 1)
}

/// Secrets like `pattern`, which the controller has written, but that nobody looks after; created, or replaced without
/// a look at what is there.
pub(super) fn copies(cluster: &Cluster, pattern: &Value, verb: Verb, numbers: Range<usize>) -> Result<Pace> {
    let collection = format!("/api/v1/namespaces/{PATTERN}/secrets");
    let path = if verb == Verb::Create { collection } else { format!("{collection}/{COPY}") };
    let body = copy(pattern, verb).to_string();
    Task::Write(Write { verb, path, body, numbers, step: 1, clients: CLIENTS }).run(cluster)
}

/// What replaces a copy differs from it: the API server stores nothing when nothing changes.
fn copy(pattern: &Value, verb: Verb) -> Value {
    let metadata = &pattern["metadata"];
    let mut annotations = metadata["annotations"].clone();
    annotations["bench.certmint.dev/written-by"] = format!("{verb:?}").into();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": COPY,
            "labels": { "bench.certmint.dev/copy": "true" },
            "annotations": annotations,
            "ownerReferences": metadata["ownerReferences"],
        },
        "type": pattern["type"],
        "data": pattern["data"],
    })
}

/// One whose pods, if it had any, the Service `service` would select.
fn cron_job(name: &str, service: &str) -> Value {
    let mut workload = workload::manifest("cronjob", name, "none", &json!({ (keys::INJECT): keys::TRUE }));
    workload["spec"]["suspend"] = true.into();
    workload["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]["app"] = service.into();
    workload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replaces_a_copy_changes_it_and_depends_on_no_version() {
        let pattern = json!({
            "metadata": {
                "name": PATTERN_SECRET,
                "resourceVersion": "7",
                "annotations": { "certmint.dev/serial": "ab" },
                "ownerReferences": [{ "kind": "CronJob" }],
            },
            "type": "kubernetes.io/tls",
            "data": { "tls.crt": "" },
        });
        let [created, replaced] = [Verb::Create, Verb::Update].map(|verb| copy(&pattern, verb));
        assert_ne!(created, replaced);
        for copy in [created, replaced] {
            assert!(copy["metadata"]["resourceVersion"].is_null());
            assert_eq!(copy["data"], pattern["data"]);
            assert_eq!(copy["metadata"]["annotations"]["certmint.dev/serial"], "ab");
        }
    }
}
