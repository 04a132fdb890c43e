//! Tests of the chart's alerts and dashboard with promtool, and functions for the scenario `metrics`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::prometheus::programs;
use certmint_local_cluster::{command, repository};
use serde_json::{Value, json};

use crate::chart::read;
use crate::manifest::items;

/// Reference page of the metrics, from the repository's root.
pub const PAGE: &str = "docs/src/reference/metrics.md";
/// Rules file of the chart's alerts.
pub const ALERTS: &str = "alerts.yaml";
/// Grafana dashboard of the chart.
pub(crate) const DASHBOARD: &str = "dashboards/certmint.json";

/// Page with the runbook of each alert, from the repository's root.
const RUNBOOKS: &str = "docs/src/runbooks.md";

/// Checks that every alert has a runbook and texts, fires on the series made for it, and does not fire on
/// healthy series.
pub(crate) fn alerts_fire(cache: &Cache) -> Result<()> {
    let alerts: Value = serde_saphyr::from_str(&read(ALERTS)?).context("the alerts are not YAML")?;
    let path = alert_tests();
    let tests = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for rule in items(&alerts["groups"]).iter().flat_map(|group| items(&group["rules"])) {
        let name = rule["alert"].as_str().context("a rule is not an alert")?;
        check_texts(rule).with_context(|| name.to_owned())?;
        let tested = tests.contains(&format!("'ALERTS{{alertname=\"{name}\", alertstate=\"firing\""));
        ensure!(tested, "{} has no test in which {name} fires", path.display());
    }
    let mut promtool = Command::new(programs(cache)?.join("promtool"));
    // The test file names other files relative to its directory.
    promtool.current_dir(path.parent().context("a file has a directory")?);
    command::output(promtool.args(["test", "rules"]).arg(&path)).map(drop)
}

/// Checks that Prometheus can parse every expression of the dashboard.
pub(crate) fn dashboard_parses(cache: &Cache) -> Result<()> {
    let rules: Vec<_> = dashboard_expressions()?
        .into_iter()
        .enumerate()
        .map(|(index, expression)| json!({ "record": format!("panel:{index}"), "expr": expression }))
        .collect();
    rules_parse(cache, &json!({ "groups": [{ "name": "dashboard", "rules": rules }] }))
}

/// Checks that Prometheus accepts `rules`.
pub(crate) fn rules_parse(cache: &Cache, rules: &Value) -> Result<()> {
    let promtool = programs(cache)?.join("promtool");
    // JSON is valid YAML.
    command::output_with_input(
        Command::new(promtool).args(["check", "rules", "/dev/stdin"]),
        &rules.to_string(),
    )
    .map(drop)
}

fn check_texts(rule: &Value) -> Result<()> {
    let severity = &rule["labels"]["severity"];
    ensure!(*severity == "critical" || *severity == "warning", "its severity is {severity}");
    ensure!(rule["for"].is_string(), "it has no `for`");
    for text in ["summary", "description"] {
        let words = rule["annotations"][text].as_str().unwrap_or_default();
        ensure!(words.ends_with('.'), "its {text} is not a sentence: {words:?}");
    }
    let runbook = rule["annotations"]["runbook_url"].as_str().unwrap_or_default();
    let expected = format!("{RUNBOOKS}#{}", rule["alert"].as_str().unwrap_or_default().to_lowercase());
    ensure!(runbook == expected, "its runbook_url is {runbook:?} instead of {expected}");
    Ok(())
}

/// Returns every expression of the dashboard, with a value in the place of each variable of Grafana.
///
/// # Errors
/// When the dashboard cannot be read, a panel has no expression, or an expression has an unknown variable.
pub fn dashboard_expressions() -> Result<Vec<String>> {
    let path = repository::chart().join(DASHBOARD);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let dashboard: Value = serde_json::from_str(&text).context("the dashboard is not JSON")?;
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().context("the dashboard has no panels")? {
        let title = panel["title"].as_str().context("a panel has no title")?;
        let targets = panel["targets"].as_array().filter(|targets| !targets.is_empty());
        for target in targets.with_context(|| format!("the panel \"{title}\" has no targets"))? {
            let expression =
                target["expr"].as_str().with_context(|| format!("\"{title}\": no expression"))?;
            let plain = expression.replace("$__rate_interval", "5m").replace("$namespace", ".*");
            ensure!(!plain.contains('$'), "\"{title}\" has an unknown variable: {plain}");
            expressions.push(plain);
        }
    }
    Ok(expressions)
}

/// Returns the names of Certmint's metrics in `text`, without the suffixes of a histogram's series.
#[must_use]
pub fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("certmint_"));
    names
        .map(|name| {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            base.unwrap_or(name).to_owned()
        })
        .collect()
}

/// Returns the names of the metrics on the reference page.
///
/// # Errors
/// When the page cannot be read.
pub fn documented_metrics() -> Result<BTreeSet<String>> {
    let path = repository::root().join(PAGE);
    Ok(metric_names(&fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?))
}

/// Returns the file with series that fire the alerts, and healthy series that must not.
fn alert_tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/alerts.test.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_has_every_used_metric() {
        let documented = documented_metrics().unwrap();
        let alerts = fs::read_to_string(repository::chart().join(ALERTS)).unwrap();
        let used = metric_names(&[alerts, dashboard_expressions().unwrap().join("\n")].join("\n"));
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "{PAGE} does not have {unknown:?}");
    }

    #[test]
    fn the_page_has_every_alert_with_severity_and_duration() {
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
    fn every_alert_has_one_runbook() {
        let page = fs::read_to_string(repository::root().join(RUNBOOKS)).unwrap();
        let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let alerts = fs::read_to_string(repository::chart().join(ALERTS)).unwrap();
        let alerts: Vec<_> =
            alerts.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
        assert_eq!(headings, alerts);
    }

    #[test]
    fn the_troubleshooting_page_has_every_alert() {
        let named = |path: PathBuf, mark: &str| -> Vec<String> {
            let text = fs::read_to_string(path).unwrap();
            let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(mark));
            lines.map(|rest| rest.split('`').next().unwrap().to_owned()).collect()
        };
        let page = repository::root().join("docs/src/troubleshooting.md");
        assert_eq!(named(page, "| `Certmint"), named(repository::chart().join(ALERTS), "- alert: Certmint"));
    }
}
