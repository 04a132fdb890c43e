//! The report of a failed scenario: objects, Events and logs of the namespaces that are involved.

use std::fmt::Write as _;

use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::workload::{is_healthy, pod_template};
use serde_json::Value;

/// Number of log lines and Events that the report shows of each source.
const MAX_LINES: usize = 25;
const WORKLOADS: &str = "deployments,statefulsets,daemonsets,replicasets,jobs,cronjobs,pods";

/// Returns the report about `namespaces` as text. When a command fails, the report contains its error instead.
///
/// If there are several namespaces, the last one must be Certmint's.
#[must_use]
pub fn collect(cluster: &Cluster, namespaces: &[String]) -> String {
    let mut report = String::new();
    for namespace in namespaces {
        let kubectl = cluster.kubectl().namespace(namespace);
        let mut section =
            |title: &str, text: &str| section(&mut report, &format!("{namespace}: {title}"), text);
        section("objects", &run(&kubectl, &["get", &format!("{WORKLOADS},services,secrets,hpa")]));
        section("labels and annotations of Certmint", &certmint_keys(&kubectl));
        section(
            "Secrets of Certmint",
            &run(&kubectl, &["describe", "secrets", "--selector=certmint.dev/managed"]),
        );
        section("Events, warnings last", &events(&kubectl));
        // The report leaves out pods with a scheduling gate. They never run, and there may be thousands of them.
        let is_gated = |pod: &Value| !pod["spec"]["schedulingGates"].is_null();
        for pod in kubectl.list(&["pods"]).unwrap_or_default().into_iter().filter(|pod| !is_gated(pod)) {
            let name = text(&pod["metadata"]["name"]);
            let is_pod_healthy = is_healthy(&pod);
            if !is_pod_healthy {
                section(&format!("pod {name}"), &describe(&kubectl, name));
            }
            for (title, log) in logs(&kubectl, &pod) {
                // Healthy pods of Certmint log many lines. The report shows only their warnings and errors, and lines
                // that name another namespace of the report.
                let is_filtered =
                    is_pod_healthy && namespaces.len() > 1 && namespaces.last() == Some(namespace);
                let is_relevant = |line: &str| {
                    let others = namespaces.iter().filter(|other| *other != namespace);
                    others.into_iter().any(|other| line.contains(other.as_str()))
                        || ["WARN", "ERROR", "panic"].iter().any(|level| line.contains(level))
                };
                section(&title, &last_lines(log.lines().filter(|line| !is_filtered || is_relevant(line))));
            }
        }
    }
    report
}

fn run(kubectl: &Kubectl<'_>, arguments: &[&str]) -> String {
    kubectl.run(arguments).unwrap_or_else(|error| format!("{error:#}"))
}

/// Returns what `kubectl describe` prints about a pod, without the certificates in its environment variables.
fn describe(kubectl: &Kubectl<'_>, pod: &str) -> String {
    let text = run(kubectl, &["describe", "pod", pod]);
    let is_base64 = |line: &str| {
        line.len() > 40 && line.chars().all(|char| char.is_ascii_alphanumeric() || "+/=".contains(char))
    };
    text.lines().filter(|line| !is_base64(line.trim())).fold(String::new(), |text, line| text + line + "\n")
}

/// Returns Certmint's labels and annotations on workloads and on their pod templates. Objects with an owner are left
/// out, because they have the keys of their owner.
fn certmint_keys(kubectl: &Kubectl<'_>) -> String {
    let mut keys = String::new();
    for object in kubectl.list(&[WORKLOADS]).unwrap_or_default() {
        if object["metadata"]["ownerReferences"].is_array() {
            continue;
        }
        let mut parts = vec![("", &object["metadata"])];
        if object["kind"] != "Pod" {
            parts.push((" template", &pod_template(&object)["metadata"]));
        }
        for (part, metadata) in parts {
            let maps = ["labels", "annotations"].iter().filter_map(|map| metadata[*map].as_object());
            let entries = maps.flatten().filter(|(key, _)| key.starts_with("certmint.dev/"));
            let entries: Vec<String> = entries.map(|(key, value)| format!("{key}={}", text(value))).collect();
            let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
            // Writing to a String cannot fail.
            let _ = writeln!(keys, "{kind}/{name}{part}: {}", entries.join(" "));
        }
    }
    keys
}

/// Returns the newest Events of type `Normal`, then the newest warnings.
fn events(kubectl: &Kubectl<'_>) -> String {
    let events_of_type = |kind: &str| {
        run(kubectl, &["get", "events", "--sort-by=.lastTimestamp", &format!("--field-selector=type{kind}")])
    };
    let (normal, warnings) = (events_of_type("=Normal"), events_of_type("!=Normal"));
    format!("{}\n{}", last_lines(normal.lines()), last_lines(warnings.lines()))
}

/// Returns title and content of each container log of a pod, including the log before the last restart.
fn logs(kubectl: &Kubectl<'_>, pod: &Value) -> Vec<(String, String)> {
    let name = text(&pod["metadata"]["name"]);
    let mut logs = Vec::new();
    for status in ["initContainerStatuses", "containerStatuses"] {
        for container in pod["status"][status].as_array().into_iter().flatten() {
            let container_name = text(&container["name"]);
            let arguments = ["logs", name, "--container", container_name, "--tail=2000"];
            let title = format!("log of {name}/{container_name}");
            if container["restartCount"].as_u64() > Some(0) {
                let previous = run(kubectl, &[&arguments[..], &["--previous"]].concat());
                logs.push((format!("{title} before its restart"), previous));
            }
            logs.push((title, run(kubectl, &arguments)));
        }
    }
    logs
}

/// Returns the last [`MAX_LINES`] of these lines.
fn last_lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<&str> = lines.collect();
    let kept = lines.iter().skip(lines.len().saturating_sub(MAX_LINES));
    kept.fold(String::new(), |text, line| text + line + "\n")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Adds a section to the report, unless its text is empty.
fn section(report: &mut String, title: &str, text: &str) {
    if !text.trim().is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(report, "----- {title}\n{}\n", text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_in_order() {
        let all: Vec<String> = (0..MAX_LINES + 2).map(|line| line.to_string()).collect();
        let kept = last_lines(all.iter().map(String::as_str));
        assert!(kept.starts_with("2\n3\n") && kept.ends_with(&format!("{}\n", MAX_LINES + 1)), "{kept}");
    }

    #[test]
    fn an_empty_section_is_left_out() {
        let mut report = String::new();
        section(&mut report, "events", " \n");
        assert_eq!(report, "");
    }
}
