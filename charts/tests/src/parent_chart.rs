//! Tests of the chart as a dependency that a parent chart can switch off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cache::remove_dir;
use certmint_local_cluster::{command, repository};

use crate::chart::{Chart, NAMESPACE, RELEASE, with_values};
use crate::manifest::Manifest;

/// `Chart.yaml` of a parent chart with this chart as a dependency. The tests use it with and without [`CONDITION`].
const PARENT: &str = "apiVersion: v2\nname: platform\nversion: 1.0.0\n\
                      dependencies:\n  - name: certmint\n    version: '*'\n    repository: ''\n";
const CONDITION: &str = "    condition: certmint.enabled\n";

/// Checks that a parent chart renders the same objects as this chart alone, and no objects when its condition is false.
/// Without a condition, helm would ignore the value `enabled`, so the chart rejects `false`.
pub(crate) fn condition_switches_chart_on_and_off(chart: &Chart) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("certmint-parent-{}", std::process::id()));
    let result = check_in_parent(&directory, chart);
    remove_dir(&directory)?;
    result
}

fn check_in_parent(directory: &Path, chart: &Chart) -> Result<()> {
    let parent = parent(directory)?;
    let domain = r#"policy.trustDomain="prod.example""#;
    let switched_on =
        rendered(chart, &parent, &[&format!("certmint.{domain}"), r#"global={"region":"north"}"#])?;
    let without_parent = chart.render(&[domain])?;
    ensure!(switched_on.objects() == without_parent.objects(), "a parent chart renders other objects");
    let switched_off = rendered(chart, &parent, &["certmint.enabled=false"])?;
    ensure!(
        switched_off.objects().is_empty(),
        "with certmint.enabled=false, the chart renders {:?}",
        switched_off.objects()
    );
    fs::write(parent.join("Chart.yaml"), PARENT)?;
    let Err(error) = rendered(chart, &parent, &["certmint.enabled=false"]) else {
        bail!("helm accepts certmint.enabled=false without a condition")
    };
    let error = error.to_string();
    ensure!(error.contains("write condition: certmint.enabled for it"), "unexpected error: {error}");
    Ok(())
}

fn parent(directory: &Path) -> Result<PathBuf> {
    let charts = directory.join("charts");
    fs::create_dir_all(&charts)?;
    command::output(
        Command::new("cp").arg("--recursive").arg(repository::chart()).arg(charts.join("certmint")),
    )?;
    fs::write(directory.join("Chart.yaml"), format!("{PARENT}{CONDITION}"))
        .context("cannot write the parent chart")?;
    Ok(directory.to_owned())
}

fn rendered(chart: &Chart, parent: &Path, arguments: &[&str]) -> Result<Manifest> {
    let mut helm = Command::new(&chart.helm);
    helm.args(["template", RELEASE]).arg(parent).args(["--namespace", NAMESPACE]);
    Manifest::parse(&command::output(with_values(&mut helm, arguments))?)
}
