//! Objects that fill a cluster.

use std::ops::Range;

use anyhow::Result;
use certmint_contract::keys;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::workload;
use serde_json::{Value, json};

use super::{CLIENTS, PATTERN_NAMESPACE};
use crate::in_cluster::{ObjectWrites, Task, Timings, Verb};

/// Secret of the workload that [`pattern_workload`] returns.
pub(super) const PATTERN_SECRET: &str = "payments-certmint-tls";
/// Name of each copy of the Secret, with its number in the place of `{index}`.
const COPY_NAME: &str = "payments-copy-{index}";

/// Returns the workload whose Secret is the pattern for [`write_copies`], and its Service.
pub(super) fn pattern_workload() -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": [workload::service("payments"), cron_job("payments", "payments")] })
}

/// Creates workloads, a hundred in each namespace. Each group of ten has a headless Service, so that all certificates
/// have DNS names. The workloads are CronJobs that never run, so that no other controller has work with them. For
/// `{index}`, `{ten}` and `{hundred}`, see [`ObjectWrites`].
pub(super) fn create_workloads(cluster: &Cluster, numbers: Range<usize>) -> Result<Timings> {
    let create = |path: &str, body: &Value, step| {
        let (path, body) = (path.to_owned(), body.to_string());
        let numbers = numbers.clone();
        let create = ObjectWrites { verb: Verb::Create, path, body, numbers, step, clients: CLIENTS };
        Task::Write(create).run::<Timings>(cluster)
    };
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "bench-{hundred}" } });
    create("/api/v1/namespaces", &namespace, 100)?;
    create("/api/v1/namespaces/bench-{hundred}/services", &workload::service("group-{ten}"), 10)?;
    let workload = cron_job("payments-{index}", "group-{ten}");
    create("/apis/batch/v1/namespaces/bench-{hundred}/cronjobs", &workload, 1)
}

/// Creates or replaces copies of the Secret `pattern`, which the controller wrote. The controller does not
/// manage the copies.
pub(super) fn write_copies(
    cluster: &Cluster,
    pattern: &Value,
    verb: Verb,
    numbers: Range<usize>,
) -> Result<Timings> {
    let collection = format!("/api/v1/namespaces/{PATTERN_NAMESPACE}/secrets");
    let path = if verb == Verb::Create { collection } else { format!("{collection}/{COPY_NAME}") };
    let body = copy(pattern, verb).to_string();
    Task::Write(ObjectWrites { verb, path, body, numbers, step: 1, clients: CLIENTS }).run(cluster)
}

/// Returns a copy of the Secret. A replacement differs from the created copy, because the API server does not
/// store an object that does not change.
fn copy(pattern: &Value, verb: Verb) -> Value {
    let metadata = &pattern["metadata"];
    let mut annotations = metadata["annotations"].clone();
    annotations["bench.certmint.dev/written-by"] = format!("{verb:?}").into();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": COPY_NAME,
            "labels": { "bench.certmint.dev/copy": "true" },
            "annotations": annotations,
            "ownerReferences": metadata["ownerReferences"],
        },
        "type": pattern["type"],
        "data": pattern["data"],
    })
}

/// Returns a CronJob whose pods the Service `service` would select.
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
    fn a_replacement_changes_the_copy() {
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
