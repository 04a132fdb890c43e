//! Alerts and dashboard, read by Prometheus' own tool.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::manifest::items;
use super::read;
use crate::cache::Cache;
use crate::{command, prometheus, repository};

/// Every alert says what to do next, fires on the series made for it, and none does on healthy ones.
pub(super) fn alerts_fire(cache: &Cache) -> Result<()> {
    let alerts: Value =
        serde_saphyr::from_str(&read(prometheus::ALERTS)?).context("the alerts are not YAML")?;
    let path = prometheus::alert_tests();
    let tests = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for rule in items(&alerts["groups"]).iter().flat_map(|group| items(&group["rules"])) {
        let name = rule["alert"].as_str().context("a rule is no alert")?;
        says_what_to_do(rule).with_context(|| name.to_owned())?;
        let tested = tests.contains(&format!("'ALERTS{{alertname=\"{name}\", alertstate=\"firing\""));
        ensure!(tested, "{} makes {name} fire nowhere", path.display());
    }
    let mut promtool = Command::new(prometheus::programs(cache)?.join("promtool"));
    // The files that a test names lie beside it.
    promtool.current_dir(path.parent().context("a file has a directory")?);
    command::output(promtool.args(["test", "rules"]).arg(&path)).map(drop)
}

/// Every expression of the dashboard is one.
pub(super) fn dashboard_parses(cache: &Cache) -> Result<()> {
    let rules: Vec<_> = prometheus::dashboard_expressions()?
        .into_iter()
        .enumerate()
        .map(|(index, expression)| json!({ "record": format!("panel:{index}"), "expr": expression }))
        .collect();
    rules_parse(cache, &json!({ "groups": [{ "name": "dashboard", "rules": rules }] }))
}

/// Rules that a Prometheus would load.
pub(super) fn rules_parse(cache: &Cache, rules: &Value) -> Result<()> {
    let promtool = prometheus::programs(cache)?.join("promtool");
    // JSON is YAML.
    command::output_with_input(
        Command::new(promtool).args(["check", "rules", "/dev/stdin"]),
        &rules.to_string(),
    )
    .map(drop)
}

fn says_what_to_do(rule: &Value) -> Result<()> {
    let severity = &rule["labels"]["severity"];
    ensure!(*severity == "critical" || *severity == "warning", "its severity is {severity}");
    ensure!(rule["for"].is_string(), "it fires at once");
    for text in ["summary", "description"] {
        let words = rule["annotations"][text].as_str().unwrap_or_default();
        ensure!(words.ends_with('.'), "its {text} is no sentence: {words:?}");
    }
    let runbook = rule["annotations"]["runbook"].as_str().unwrap_or_default();
    let (page, heading) = runbook.split_once('#').unwrap_or_default();
    let page = fs::read_to_string(repository::root().join(page));
    let page = page.with_context(|| format!("its runbook is no page: {runbook:?}"))?;
    let has = page.lines().any(|line| {
        line.strip_prefix("## ").is_some_and(|title| title.to_lowercase().replace(' ', "-") == heading)
    });
    ensure!(has, "its runbook names no heading of its page: {runbook:?}");
    Ok(())
}
