//! What a failing scenario shows: the objects, events and logs that explain it, and not those that are well.

use std::fmt::Write as _;

use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::workload::{is_well, template};
use serde_json::Value;

/// How much of each container's log is shown.
const LOG_LINES: usize = 25;
const WORKLOADS: &str = "deployments,statefulsets,daemonsets,replicasets,jobs,cronjobs,pods";

/// Everything worth reading in `namespaces`, as text. What cannot be had is said in its place.
#[must_use]
pub fn of(cluster: &Cluster, namespaces: &[String]) -> String {
    let mut report = String::new();
    for namespace in namespaces {
        let kubectl = cluster.kubectl().namespace(namespace);
        let mut section =
            |title: &str, text: &str| section(&mut report, &format!("{namespace}: {title}"), text);
        section("objects", &run(&kubectl, &["get", &format!("{WORKLOADS},services,secrets,hpa")]));
        section("what bears our keys", &keys(&kubectl));
        section(
            "Secrets of ours",
            &run(&kubectl, &["describe", "secrets", "--selector=certmint.dev/managed"]),
        );
        section("events, warnings last", &events(&kubectl));
        // One that a scheduling gate holds is not meant to run, and there may be thousands.
        let held = |pod: &Value| !pod["spec"]["schedulingGates"].is_null();
        for pod in kubectl.list(&["pods"]).unwrap_or_default().into_iter().filter(|pod| !held(pod)) {
            let name = word(&pod["metadata"]["name"]);
            let well = is_well(&pod);
            if !well {
                section(&format!("pod {name}"), &describe(&kubectl, name));
            }
            for (title, log) in logs(&kubectl, &pod) {
                // Of our own healthy pods only what concerns the others, or is amiss.
                let brief = well && namespaces.len() > 1 && namespaces.last() == Some(namespace);
                let concerns = |line: &str| {
                    let others = namespaces.iter().filter(|other| *other != namespace);
                    others.into_iter().any(|other| line.contains(other.as_str()))
                        || ["WARN", "ERROR", "panic"].iter().any(|level| line.contains(level))
                };
                section(&title, &last(log.lines().filter(|line| !brief || concerns(line))));
            }
        }
    }
    report
}

fn run(kubectl: &Kubectl<'_>, arguments: &[&str]) -> String {
    kubectl.run(arguments).unwrap_or_else(|error| format!("{error:#}"))
}

/// What kubectl tells of a pod, without the certificates in its environment.
fn describe(kubectl: &Kubectl<'_>, pod: &str) -> String {
    let text = run(kubectl, &["describe", "pod", pod]);
    let is_base64 = |line: &str| {
        line.len() > 40 && line.chars().all(|char| char.is_ascii_alphanumeric() || "+/=".contains(char))
    };
    text.lines().filter(|line| !is_base64(line.trim())).fold(String::new(), |text, line| text + line + "\n")
}

/// Labels and annotations of ours, on objects and on their pod templates; not on what a controller made, which
/// has them from there.
fn keys(kubectl: &Kubectl<'_>) -> String {
    let mut text = String::new();
    for object in kubectl.list(&[WORKLOADS]).unwrap_or_default() {
        if object["metadata"]["ownerReferences"].is_array() {
            continue;
        }
        let mut places = vec![("", &object["metadata"])];
        if object["kind"] != "Pod" {
            places.push((" template", &template(&object)["metadata"]));
        }
        for (place, metadata) in places {
            let maps = ["labels", "annotations"].iter().filter_map(|map| metadata[*map].as_object());
            let ours = maps.flatten().filter(|(key, _)| key.starts_with("certmint.dev/"));
            let ours: Vec<String> = ours.map(|(key, value)| format!("{key}={}", word(value))).collect();
            let (kind, name) = (word(&object["kind"]), word(&object["metadata"]["name"]));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{kind}/{name}{place}: {}", ours.join(" "));
        }
    }
    text
}

/// Events by when they were last seen, those that are as they should be first.
fn events(kubectl: &Kubectl<'_>) -> String {
    let of = |kind: &str| {
        run(kubectl, &["get", "events", "--sort-by=.lastTimestamp", &format!("--field-selector=type{kind}")])
    };
    let (normal, warnings) = (of("=Normal"), of("!=Normal"));
    format!("{}\n{}", last(normal.lines()), last(warnings.lines()))
}

fn logs(kubectl: &Kubectl<'_>, pod: &Value) -> Vec<(String, String)> {
    let name = word(&pod["metadata"]["name"]);
    let mut logs = Vec::new();
    for status in ["initContainerStatuses", "containerStatuses"] {
        for container in pod["status"][status].as_array().into_iter().flatten() {
            let container_name = word(&container["name"]);
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

/// The last of these lines, one below the other.
fn last<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<&str> = lines.collect();
    let kept = lines.iter().skip(lines.len().saturating_sub(LOG_LINES));
    kept.fold(String::new(), |text, line| text + line + "\n")
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Nothing is said of what there is nothing to say about.
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
        let all: Vec<String> = (0..LOG_LINES + 2).map(|line| line.to_string()).collect();
        let kept = last(all.iter().map(String::as_str));
        assert!(kept.starts_with("2\n3\n") && kept.ends_with(&format!("{}\n", LOG_LINES + 1)), "{kept}");
    }

    #[test]
    fn an_empty_section_is_left_out() {
        let mut report = String::new();
        section(&mut report, "events", " \n");
        assert_eq!(report, "");
    }
}
