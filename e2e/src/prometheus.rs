//! Prometheus and promtool out of Debian's package, and what of ours they read: alerts and dashboard.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cache::{Cache, Key, remove_dir};
use crate::packages::unpack;
use crate::{progress, repository};

/// The reference page, relative to the repository.
pub const PAGE: &str = "docs/src/reference/metrics.md";
/// The chart's alerts, as Prometheus reads them.
pub const ALERTS: &str = "alerts.yaml";
/// The chart's dashboard, as Grafana reads it.
pub const DASHBOARD: &str = "dashboards/certmint.json";

/// The directory with `prometheus` and `promtool`. Nothing is installed, and nothing started.
///
/// # Errors
/// When the package cannot be had.
pub fn programs(cache: &Cache) -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/debian_version")
        .context("Prometheus is taken from Debian's packages, and this is not Debian or alike")?;
    cache.entry("components", "prometheus", &Key::default().text(release.trim()), |directory| {
        progress::step("fetching Prometheus (once)", || {
            let packages = directory.join("packages");
            unpack(&["prometheus"], &packages)?;
            for program in ["prometheus", "promtool"] {
                let packaged = packages.join("usr/bin").join(program);
                fs::copy(&packaged, directory.join(program)).context("the package has no such program")?;
            }
            remove_dir(&packages)
        })
    })
}

/// Every expression of the dashboard, with a value in the place of each of Grafana's variables.
///
/// # Errors
/// When the dashboard is not one, or a panel has no expression.
pub fn dashboard_expressions() -> Result<Vec<String>> {
    let path = repository::chart().join(DASHBOARD);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let dashboard: Value = serde_json::from_str(&text).context("the dashboard is not JSON")?;
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().context("the dashboard has no panels")? {
        let title = panel["title"].as_str().context("a panel has no title")?;
        let targets = panel["targets"].as_array().filter(|targets| !targets.is_empty());
        for target in targets.with_context(|| format!("the panel \"{title}\" shows nothing"))? {
            let expression =
                target["expr"].as_str().with_context(|| format!("\"{title}\": no expression"))?;
            let plain = expression.replace("$__rate_interval", "5m").replace("$namespace", ".*");
            ensure!(!plain.contains('$'), "\"{title}\" has a variable that nobody sets: {plain}");
            expressions.push(plain);
        }
    }
    Ok(expressions)
}

/// The names of our metrics in a text, without what a histogram adds to its own.
#[must_use]
pub fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("certmint_"));
    names
        .map(|name| {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            base.unwrap_or(name).to_owned()
        })
        .collect()
}

/// The names of the metrics that the reference page has.
///
/// # Errors
/// When the page is not there.
pub fn documented() -> Result<BTreeSet<String>> {
    let path = repository::root().join(PAGE);
    Ok(names(&fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?))
}

/// Series made to fire the alerts, and the healthy ones that must not.
#[must_use]
pub fn alert_tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/alerts.test.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_alerts_and_dashboard_is_on_the_reference_page() {
        let documented = documented().unwrap();
        let alerts = fs::read_to_string(repository::chart().join(ALERTS)).unwrap();
        let used = names(&[alerts, dashboard_expressions().unwrap().join("\n")].join("\n"));
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "{PAGE} does not have {unknown:?}");
    }

    #[test]
    fn the_page_has_every_alert_with_its_severity_and_patience() {
        let page = fs::read_to_string(repository::root().join(PAGE)).unwrap();
        let alerts = fs::read_to_string(repository::chart().join(ALERTS)).unwrap();
        let alerts: Value = serde_saphyr::from_str(&alerts).unwrap();
        let rows: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("| `Certmint"))
            .map(|line| line.split(" | ").take(3).collect::<Vec<_>>().join(" | "))
            .collect();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rules = alerts["groups"][0]["rules"].as_array().unwrap().iter();
        let expected: Vec<_> = rules
            .map(|rule| {
                let severity = text(&rule["labels"]["severity"]);
                format!("| `{}` | {severity} | {}", text(&rule["alert"]), text(&rule["for"]))
            })
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn the_page_for_those_in_trouble_has_every_alert() {
        let named = |path: PathBuf, mark: &str| -> Vec<String> {
            let text = fs::read_to_string(path).unwrap();
            let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(mark));
            lines.map(|rest| rest.split('`').next().unwrap().to_owned()).collect()
        };
        let page = repository::root().join("docs/src/troubleshooting.md");
        assert_eq!(named(page, "| `Certmint"), named(repository::chart().join(ALERTS), "- alert: Certmint"));
    }
}
