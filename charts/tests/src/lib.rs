//! Tests of the Helm chart: rendered and looked at without a cluster, then given to a real API server.

#![expect(clippy::indexing_slicing, reason = "serde_json answers null for a field that is not there")]

mod admission;
pub mod described;
mod kubernetes_schemas;
mod life;
mod manifest;
mod monitoring;
mod notes;
mod objects;
mod openapi;
mod parent;
mod policies;
mod privileges;
pub mod prometheus;
mod rendering;
mod required_values;
mod value_sets;
mod values;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::components::HELM;
use certmint_local_cluster::repository::chart;
use certmint_local_cluster::{command, progress};

use crate::kubernetes_schemas::Schemas;
use crate::manifest::Manifest;
use crate::value_sets::SETS;

/// The release's name in these tests; the chart's own, so that names stay short.
const RELEASE: &str = "certmint";
/// The release's namespace in these tests.
const NAMESPACE: &str = "certmint-system";

/// Markdown tables of the RBAC rules in the chart's default rendering.
///
/// # Errors
/// When helm cannot be built, or the chart cannot be rendered.
pub fn permission_tables(cache: &Cache) -> Result<String> {
    privileges::page(&Chart::open(cache)?.template(&[])?)
}

/// Tests what can be seen without a cluster: lint, the schema of the values, and rendered objects. Returns
/// how many tests passed.
///
/// # Errors
/// The first test that fails, with the object it is about.
pub fn test(cache: &Cache) -> Result<usize> {
    let chart = Chart::open(cache)?;
    let schemas = Schemas::fetch(cache)?;
    let mut passed = 0;
    let mut test = |what: &str, test: &dyn Fn() -> Result<()>| {
        passed += 1;
        progress::step(what, test)
    };
    test("helm lint --strict", &|| chart.lint())?;
    test("every value has a comment, and is tried", &values::known)?;
    test("the schema takes no unknown key", &values::schema_is_closed)?;
    test("every value has a type, and a bad one is refused by name", &|| values::bad_ones_refused(&chart))?;
    test("what is required is missed by name", &|| required_values::missed(&chart))?;
    test("a policy that the programs refuse, the chart refuses", &|| policies::agree(&chart))?;
    test("every value changes something", &|| values::each_used(&chart))?;
    test("every alert fires when it should, and only then", &|| prometheus::alerts_fire(cache))?;
    test("every expression of the dashboard is one", &|| prometheus::dashboard_parses(cache))?;
    test("a parent chart leaves it in or out", &|| parent::leaves_it_in_or_out(&chart))?;
    test("the default policy is the one in the code", &|| rendering::policy_is_the_default(&chart))?;
    test("users are left to OpenShift", &|| rendering::users_are_left_to_openshift(&chart))?;
    for set in SETS {
        let manifest = chart.render(set.set)?;
        test(&format!("rendered well with {}", set.name), &|| rendering::check(&manifest, set))?;
        test("  and Prometheus takes the rules", &|| monitoring::rules_parse(cache, &manifest, set))?;
        test("  and valid in every Kubernetes since 1.33", &|| schemas.check(&manifest))?;
        test("  and the notes tell what it means", &|| notes::check(&chart, set))?;
    }
    Ok(passed)
}

/// Tests what only a real API server can tell, on a cluster without a node, on which there is nothing else.
///
/// # Errors
/// The first test that fails, with what the API server said.
pub fn test_on(cluster: &Cluster) -> Result<()> {
    progress::step("ServiceMonitors and PrometheusRules are known", || life::define_monitoring(cluster))?;
    for set in SETS {
        let what = format!("the API server takes what is rendered with {}", set.name);
        progress::step(&what, || life::accepted(cluster, set))?;
    }
    progress::step("it is installed", || life::install(cluster))?;
    progress::step("its Services have addresses of both families, or of one again", || {
        life::dual_stack(cluster)
    })?;
    progress::step("what is ours reaches the webhook, and nothing else", || admission::selects(cluster))?;
    progress::step("an upgrade keeps the caBundle", || life::upgrade_keeps_ca_bundle(cluster))?;
    progress::step("uninstalling leaves nothing outside its namespace", || life::uninstall(cluster))?;
    progress::step("a second release is refused where one serves already", || life::second_release(cluster))
}

/// The chart as helm reads it.
struct Chart {
    helm: PathBuf,
}

impl Chart {
    fn open(cache: &Cache) -> Result<Self> {
        Ok(Self { helm: HELM.build(cache)?.join("helm") })
    }

    fn lint(&self) -> Result<()> {
        command::output(Command::new(&self.helm).args(["lint", "--strict"]).arg(chart())).map(drop)
    }

    /// What `helm template` makes of the chart with these `--set-json` arguments.
    fn render(&self, set: &[&str]) -> Result<Manifest> {
        Manifest::parse(&self.template(set)?)
    }

    /// What `helm install` says in the end.
    fn notes(&self, set: &[&str]) -> Result<String> {
        let mut helm = Command::new(&self.helm);
        helm.args(["install", RELEASE]).arg(chart()).args(["--namespace", NAMESPACE, "--dry-run=client"]);
        let said = command::output(with_values(helm.env("KUBECONFIG", "/dev/null"), set))?;
        let (_, notes) = said.split_once("\nNOTES:\n").context("helm install says no notes")?;
        Ok(notes.to_owned())
    }

    fn template(&self, set: &[&str]) -> Result<String> {
        self.template_for("v1", set)
    }

    /// On a cluster that has that API beside helm's usual ones.
    fn template_for(&self, api: &str, set: &[&str]) -> Result<String> {
        let mut helm = Command::new(&self.helm);
        helm.args(["template", RELEASE]).arg(chart()).args(["--namespace", NAMESPACE, "--api-versions", api]);
        command::output(with_values(&mut helm, set))
    }
}

/// A file of the chart.
fn read(file: &str) -> Result<String> {
    let path = chart().join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn with_values<'a>(helm: &'a mut Command, set: &[&str]) -> &'a mut Command {
    for value in set {
        helm.args(["--set-json", value]);
    }
    helm
}
