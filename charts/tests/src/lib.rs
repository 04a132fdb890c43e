//! Tests of the Helm chart. Some tests render it without a cluster, and others install it on a real API server.

#![expect(clippy::indexing_slicing, reason = "serde_json returns null for a field that does not exist")]

mod admission;
mod chart;
mod kubernetes_schemas;
mod manifest;
mod monitoring;
mod notes;
mod objects;
mod openapi;
mod parent_chart;
mod permissions;
mod policies;
pub mod prometheus;
mod release;
mod rendering;
mod required_values;
mod value_sets;
pub mod value_tables;
mod values;

use anyhow::Result;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::progress;

use crate::chart::Chart;
use crate::kubernetes_schemas::Schemas;
use crate::value_sets::SETS;

/// Returns Markdown tables of the RBAC rules in the chart's default rendering.
///
/// # Errors
/// When helm cannot be built, or the chart cannot be rendered.
pub fn permission_tables(cache: &Cache) -> Result<String> {
    permissions::page(&Chart::open(cache)?.template(&[])?)
}

/// Runs the tests that need no cluster: lint, schema of the values, and rendered objects. Returns the number of tests.
///
/// # Errors
/// When a test fails. The error names the object.
pub fn run_offline(cache: &Cache) -> Result<usize> {
    let chart = Chart::open(cache)?;
    let schemas = Schemas::fetch(cache)?;
    let mut passed = 0;
    let mut test = |what: &str, test: &dyn Fn() -> Result<()>| {
        passed += 1;
        progress::step(what, test)
    };
    test("helm lint --strict", &|| chart.lint())?;
    test("every value has a comment and a test", &values::every_value_is_tested)?;
    test("the schema rejects unknown keys", &values::schema_is_closed)?;
    test("bad values are rejected by name", &|| values::bad_values_are_rejected(&chart))?;
    test("missing values are reported by name", &|| required_values::missing_values_are_reported(&chart))?;
    test("the chart and the programs accept the same policies", &|| {
        policies::chart_and_programs_agree(&chart)
    })?;
    test("every value has an effect", &|| values::every_value_has_an_effect(&chart))?;
    test("every alert fires when it should, and only then", &|| prometheus::alerts_fire(cache))?;
    test("every expression of the dashboard is valid", &|| prometheus::dashboard_parses(cache))?;
    test("a parent chart can switch the chart on and off", &|| {
        parent_chart::condition_switches_chart_on_and_off(&chart)
    })?;
    test("the default policy of the chart is the default of the programs", &|| {
        rendering::policy_is_the_default(&chart)
    })?;
    test("OpenShift chooses the user of the container", &|| rendering::openshift_chooses_the_user(&chart))?;
    for set in SETS {
        let manifest = chart.render(set.arguments)?;
        test(&format!("rendered with {}: the objects are as expected", set.name), &|| {
            rendering::check(&manifest, set)
        })?;
        test("  Prometheus accepts the rules", &|| monitoring::rules_parse(cache, &manifest, set))?;
        test("  the objects are valid in every Kubernetes since 1.33", &|| schemas.check(&manifest))?;
        test("  the notes have the expected warnings", &|| notes::check(&chart, set))?;
    }
    Ok(passed)
}

/// Runs the tests that need an API server, on a cluster without a node and without other objects.
///
/// # Errors
/// When a test fails. The error contains the API server's answer.
pub fn run_on(cluster: &Cluster) -> Result<()> {
    progress::step("ServiceMonitor and PrometheusRule are defined", || release::define_monitoring(cluster))?;
    for set in SETS {
        let what = format!("the API server accepts the objects with {}", set.name);
        progress::step(&what, || release::expect_accepted(cluster, set))?;
    }
    progress::step("the chart is installed", || release::install(cluster))?;
    progress::step("Services can be switched to both address families and back", || {
        release::switch_address_families(cluster)
    })?;
    progress::step("only Certmint's objects are sent to the webhook", || {
        admission::expect_selected_objects(cluster)
    })?;
    progress::step("an upgrade keeps the caBundle", || release::upgrade_keeps_ca_bundle(cluster))?;
    progress::step("helm uninstall leaves no objects outside the release's namespace", || {
        release::uninstall(cluster)
    })?;
    progress::step("a second release for the same namespaces is rejected", || {
        release::expect_second_release_rejected(cluster)
    })
}
