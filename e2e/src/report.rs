//! What a failing scenario shows: the objects, events and logs that explain it.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cluster::Cluster;

/// How much of each container's log is shown.
const LOG_LINES: &str = "40";

/// Everything worth reading in `namespaces`, as text. What cannot be had is said in its place.
#[must_use]
pub fn of(cluster: &Cluster, namespaces: &[String]) -> String {
    let mut report = String::new();
    for namespace in namespaces {
        let kubectl = cluster.kubectl().namespace(namespace);
        let mut show = |title: &str, arguments: &[&str]| {
            let text = kubectl.run(arguments).unwrap_or_else(|error| format!("{error:#}"));
            section(&mut report, &format!("{namespace}: {title}"), &text);
        };
        let kinds = "deployments,statefulsets,daemonsets,replicasets,jobs,cronjobs,pods,services,secrets,hpa";
        show("objects", &["get", kinds, "--output=wide", "--show-labels"]);
        show("events", &["get", "events", "--sort-by=.lastTimestamp"]);
        show("pods", &["describe", "pods"]);
        for pod in kubectl.list(&["pods"]).unwrap_or_default() {
            logs(cluster, namespace, &pod, &mut report);
        }
    }
    report
}

fn logs(cluster: &Cluster, namespace: &str, pod: &Value, report: &mut String) {
    let kubectl = cluster.kubectl().namespace(namespace);
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let tail = format!("--tail={LOG_LINES}");
    for status in ["initContainerStatuses", "containerStatuses"] {
        for container in pod["status"][status].as_array().into_iter().flatten() {
            let container_name = container["name"].as_str().unwrap_or_default();
            let mut show = |title: &str, more: &[&str]| {
                let arguments = ["logs", name, "--container", container_name, &tail];
                let text =
                    kubectl.run(&[&arguments, more].concat()).unwrap_or_else(|error| format!("{error:#}"));
                section(report, &format!("{namespace}: log of {name}/{container_name}{title}"), &text);
            };
            show("", &[]);
            if container["restartCount"].as_u64().is_some_and(|count| count > 0) {
                show(" before its restart", &["--previous"]);
            }
        }
    }
}

fn section(report: &mut String, title: &str, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(report, "----- {title}\n{}\n", text.trim_end());
}
