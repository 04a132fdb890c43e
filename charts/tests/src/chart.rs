//! The chart under test, and the helm program that renders it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::command;
use certmint_local_cluster::components::HELM;
use certmint_local_cluster::repository::chart;

use crate::manifest::Manifest;

/// Release name in these tests. It is the chart's name, so that the names of objects are short.
pub(crate) const RELEASE: &str = "certmint";
/// Namespace of the release in these tests.
pub(crate) const NAMESPACE: &str = "certmint-system";

/// The chart, with the helm program that renders it.
pub(crate) struct Chart {
    pub(crate) helm: PathBuf,
}

impl Chart {
    pub(crate) fn open(cache: &Cache) -> Result<Self> {
        Ok(Self { helm: HELM.build(cache)?.join("helm") })
    }

    pub(crate) fn lint(&self) -> Result<()> {
        command::output(Command::new(&self.helm).args(["lint", "--strict"]).arg(chart())).map(drop)
    }

    /// Renders the chart with these `--set-json` arguments.
    pub(crate) fn render(&self, set: &[&str]) -> Result<Manifest> {
        Manifest::parse(&self.template(set)?)
    }

    /// Returns the notes that `helm install` prints.
    pub(crate) fn notes(&self, set: &[&str]) -> Result<String> {
        let mut helm = Command::new(&self.helm);
        helm.args(["install", RELEASE]).arg(chart()).args(["--namespace", NAMESPACE, "--dry-run=client"]);
        let printed = command::output(with_values(helm.env("KUBECONFIG", "/dev/null"), set))?;
        let (_, notes) =
            printed.split_once("\nNOTES:\n").context("the output of helm install has no notes")?;
        Ok(notes.to_owned())
    }

    pub(crate) fn template(&self, set: &[&str]) -> Result<String> {
        self.template_for("v1", set)
    }

    /// Renders the chart for a cluster that serves `api` in addition to the APIs that helm assumes.
    pub(crate) fn template_for(&self, api: &str, set: &[&str]) -> Result<String> {
        let mut helm = Command::new(&self.helm);
        helm.args(["template", RELEASE]).arg(chart()).args(["--namespace", NAMESPACE, "--api-versions", api]);
        command::output(with_values(&mut helm, set))
    }
}

/// Reads a file of the chart.
pub(crate) fn read(file: &str) -> Result<String> {
    let path = chart().join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

pub(crate) fn with_values<'a>(helm: &'a mut Command, set: &[&str]) -> &'a mut Command {
    for value in set {
        helm.args(["--set-json", value]);
    }
    helm
}
