//! The chart as a dependency of another one, which leaves it in or out by a value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cache::remove_dir;
use certmint_local_cluster::command;
use certmint_local_cluster::repository::chart;

use crate::manifest::Manifest;
use crate::{Chart, NAMESPACE, RELEASE};

/// A chart with ours as its dependency; what follows may be a condition.
const PARENT: &str = "apiVersion: v2\nname: platform\nversion: 1.0.0\n\
                      dependencies:\n  - name: certmint\n    version: '*'\n    repository: ''\n";
const CONDITION: &str = "    condition: certmint.enabled\n";

/// A parent chart renders what this chart does alone; with its condition false, nothing. Without a condition, helm would
/// leave the chart in, and so it is refused.
pub(crate) fn leaves_it_in_or_out(ours: &Chart) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("certmint-parent-{}", std::process::id()));
    let told = in_a_parent(&directory, ours);
    remove_dir(&directory)?;
    told
}

fn in_a_parent(directory: &Path, ours: &Chart) -> Result<()> {
    let parent = parent(directory)?;
    let domain = r#"policy.trustDomain="prod.example""#;
    let left_in = rendered(ours, &parent, &[&format!("certmint.{domain}"), r#"global={"region":"north"}"#])?;
    let alone = ours.render(&[domain])?;
    ensure!(left_in.objects() == alone.objects(), "a parent chart renders something else");
    let left_out = rendered(ours, &parent, &["certmint.enabled=false"])?;
    ensure!(left_out.objects().is_empty(), "with certmint.enabled false, there is {:?}", left_out.objects());
    fs::write(parent.join("Chart.yaml"), PARENT)?;
    let Err(error) = rendered(ours, &parent, &["certmint.enabled=false"]) else {
        bail!("certmint.enabled is false without a condition, and helm says nothing")
    };
    let error = error.to_string();
    ensure!(error.contains("write condition: certmint.enabled for it"), "the refusal is {error}");
    Ok(())
}

fn parent(directory: &Path) -> Result<PathBuf> {
    let charts = directory.join("charts");
    fs::create_dir_all(&charts)?;
    command::output(Command::new("cp").arg("--recursive").arg(chart()).arg(charts.join("certmint")))?;
    fs::write(directory.join("Chart.yaml"), format!("{PARENT}{CONDITION}")).context("no room for a chart")?;
    Ok(directory.to_owned())
}

fn rendered(ours: &Chart, parent: &Path, set: &[&str]) -> Result<Manifest> {
    let mut helm = Command::new(&ours.helm);
    helm.args(["template", RELEASE]).arg(parent).args(["--namespace", NAMESPACE]);
    Manifest::parse(&command::output(super::with_values(&mut helm, set))?)
}
