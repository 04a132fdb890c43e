//! What a cluster is filled with.

use std::ops::Range;

use anyhow::Result;
use certmint_contract::keys;
use certmint_e2e::cluster::Cluster;
use certmint_e2e::story::workload;
use serde_json::{Value, json};

use super::{CLIENTS, PATTERN};
use crate::inside::{Create, Pace, Task};

/// The Secret of [`pattern`].
pub(super) const PATTERN_SECRET: &str = "payments-certmint-tls";

/// A first workload with its Service.
pub(super) fn pattern() -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": [workload::service("payments"), cron_job("payments", "payments")] })
}

/// Workloads, a hundred in each namespace, of which each ten share a headless Service, so that all have names. They
/// are CronJobs that never come due: nobody but Certmint has work with them.
pub(super) fn workloads(cluster: &Cluster, numbers: Range<usize>) -> Result<Pace> {
    let create = |path: &str, body: &Value, step| {
        let (path, body) = (path.to_owned(), body.to_string());
        let create = Create { path, body, numbers: numbers.clone(), step, clients: CLIENTS };
        Task::Create(create).run::<Pace>(cluster)
    };
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "bench-{hundred}" } });
    create("/api/v1/namespaces", &namespace, 100)?;
    create("/api/v1/namespaces/bench-{hundred}/services", &workload::service("group-{ten}"), 10)?;
    let workload = cron_job("payments-{index}", "group-{ten}");
    create("/apis/batch/v1/namespaces/bench-{hundred}/cronjobs", &workload, 1)
}

/// Secrets like `pattern`, which the controller has written, but that nobody looks after.
pub(super) fn copies(cluster: &Cluster, pattern: &Value, numbers: Range<usize>) -> Result<Pace> {
    let metadata = &pattern["metadata"];
    let copy = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "payments-copy-{index}",
            "labels": { "bench.certmint.dev/copy": "true" },
            "annotations": metadata["annotations"],
            "ownerReferences": metadata["ownerReferences"],
        },
        "type": pattern["type"],
        "data": pattern["data"],
    });
    let path = format!("/api/v1/namespaces/{PATTERN}/secrets");
    Task::Create(Create { path, body: copy.to_string(), numbers, step: 1, clients: CLIENTS }).run(cluster)
}

/// One whose pods, if it had any, the Service `service` would select.
fn cron_job(name: &str, service: &str) -> Value {
    let mut workload = workload::manifest("cronjob", name, "none", &json!({ (keys::INJECT): keys::TRUE }));
    workload["spec"]["suspend"] = true.into();
    workload["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]["app"] = service.into();
    workload
}
