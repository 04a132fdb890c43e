//! The scenario `ca-accidents` deletes and damages the CA, and replaces it by a foreign CA and by an expired CA. It
//! recovers the CA after each accident.
//!
//! During an accident, it asserts that the controller issues nothing and says why in Events and metrics. After the
//! recovery, which follows the page `restore-the-ca` of the documentation, it asserts that existing certificates have
//! not changed.

use anyhow::{Result, ensure};
use certmint_docs_tests::book::Guide;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::progress::step;
use serde_json::json;
use time::Duration;

use super::super::own_cluster::run_on_own_cluster;
use super::crafted;
use super::fixture::{CONTROLLERS, CaFixture, Certificate, backup_directory};
use super::replacement::LIFETIMES;

const NAMESPACE: &str = "ca-accidents";

/// Runs on a cluster of its own, because no other scenario works while the CA is damaged.
pub(super) fn run(shared: &Cluster) -> Result<()> {
    run_on_own_cluster(shared, NAMESPACE, &[NAMESPACE, SYSTEM_NAMESPACE], run_accidents)
}

fn run_accidents(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, &[])?;
    let fixture = CaFixture::new(cluster, NAMESPACE)?;
    let mut guide = Guide::open(cluster, "restore-the-ca")?.at_home(backup_directory(cluster)?);
    fixture.opt_in("payments")?;
    let issued = fixture.wait_for_certificate("payments")?;

    step("the CA is backed up as the documentation says, and the backup does not show its content", || {
        guide.run_through("openssl x509")?;
        fixture.assert_encrypted_backup()
    })?;
    step("the CA's Secret is deleted: the controller issues nothing and says why", || fixture.delete_ca())?;
    step("running controllers stay ready; restarted ones do not become ready and create no CA", || {
        fixture.restart_without_ca()
    })?;
    step("the CA is restored as the documentation says: waiting workloads get certificates", || {
        guide.run_through("kubectl create --namespace certmint-system")?;
        fixture.assert_recovered(&issued)
    })?;
    step("the issuing CA is damaged: the root signs a new one, and nothing is reissued", || {
        fixture.damage_issuing_ca(&issued)
    })?;
    step("the issuing CA is not valid yet: the root signs a new one, and nothing is reissued", || {
        fixture.store_issuing_ca_that_is_not_valid_yet(&issued)
    })?;
    step("the root's key is cut in half: the controller issues nothing and says why", || {
        fixture.damage_root()
    })?;
    step("the CA is replaced by the backup as the documentation says", || {
        guide.run_through("kubectl replace --namespace certmint-system")?;
        fixture.wait_for_usable_ca()
    })?;
    step("the CA is replaced by a foreign one: the controller signs nothing with its root", || {
        fixture.replace_by_foreign_ca()
    })?;
    step("the CA is replaced by an expired one: the controller reports when the root expired", || {
        fixture.replace_by_expired_ca()
    })?;
    step("Certmint is uninstalled and installed again: CA and certificates stay the same", || {
        fixture.reinstall(&issued)
    })?;
    step(
        "the namespace is deleted and Certmint installed with other lifetimes: it creates no new CA",
        || fixture.reinstall_without_namespace(&issued),
    )?;
    step("a new root is accepted as the documentation says, and everything is reissued by it", || {
        guide.finish()?;
        fixture.assert_reissued_by_new_root(&issued)
    })?;
    step("the new root and its issuing CA have the lifetimes of the values", || fixture.assert_lifetimes())?;
    fixture.replace_issuing_ca()
}

/// The accidents, each with the assertions about its effect.
impl CaFixture<'_> {
    fn delete_ca(&self) -> Result<()> {
        self.system.delete(&["secret", "certmint-ca"])?;
        self.wait_for_refusal(
            "the CA's Secret is missing, but a CA existed before: its trust bundle still exists",
        )?;
        self.opt_in("late")?;
        self.wait_for_refused_workload("late")
    }

    fn restart_without_ca(&self) -> Result<()> {
        self.wait_for_ready_controllers()?;
        self.system.delete(&["pods", CONTROLLERS])?;
        self.wait_for_refusal("the CA's Secret is missing")?;
        self.wait_for_unready_controllers()?;
        self.assert_no_ca()
    }

    fn assert_recovered(&self, issued: &Certificate) -> Result<()> {
        let late = self.wait_for_certificate("late")?;
        ensure!(late.root == issued.root, "the recovered CA has another root");
        self.assert_unchanged("payments", issued)
    }

    fn damage_issuing_ca(&self, issued: &Certificate) -> Result<()> {
        let stored = self.stored_ca()?;
        let half = crafted::first_half(&stored["data"]["issuing.key"])?;
        self.damage_and_wait_for_repair(&json!({ "issuing.key": half }), "the issuing CA's key")?;
        self.opt_in("after-damage")?;
        self.assert_issuing_continues("after-damage", issued)
    }

    /// Stores the issuing CA that a leader would create if its clock were 40 days ahead for a moment.
    fn store_issuing_ca_that_is_not_valid_yet(&self, issued: &Certificate) -> Result<()> {
        let future = crafted::future_issuing_ca(&self.stored_ca()?, Duration::days(40))?;
        self.damage_and_wait_for_repair(&future, "the issuing CA is valid from")?;
        self.opt_in("after-future")?;
        self.assert_issuing_continues("after-future", issued)
    }

    fn assert_issuing_continues(&self, new_workload: &str, issued: &Certificate) -> Result<()> {
        let new = self.wait_for_certificate(new_workload)?;
        ensure!(new.root == issued.root, "the new certificate has another root");
        self.wait_for_usable_ca()?;
        self.assert_unchanged("payments", issued)
    }

    fn damage_root(&self) -> Result<()> {
        let half = crafted::first_half(&self.stored_ca()?["data"]["root.key"])?;
        self.patch_ca(&json!({ "root.key": half }))?;
        self.wait_for_refusal("the CA's Secret cannot be used: the root CA's key")
    }

    fn replace_by_foreign_ca(&self) -> Result<()> {
        self.replace_ca(&crafted::ca_of_age(Duration::ZERO)?.to_string())?;
        self.wait_for_refusal("holds other roots than the published trust bundle")?;
        self.opt_in("foreign-ca")?;
        self.wait_for_refused_workload("foreign-ca")?;
        let secret = self.kubectl.get(&["secret", "foreign-ca-certmint-tls"]);
        ensure!(secret.is_err(), "the controller issued a certificate with the foreign CA");
        self.restore_backup()
    }

    fn replace_by_expired_ca(&self) -> Result<()> {
        self.replace_ca(&crafted::ca_of_age(Duration::days(3_651))?.to_string())?;
        self.wait_for_refusal("the root CA expired at ")?;
        self.restore_backup()
    }

    fn reinstall(&self, issued: &Certificate) -> Result<()> {
        installation::uninstall(self.cluster)?;
        installation::install_and_wait(self.cluster, &[])?;
        self.assert_unchanged("payments", issued)
    }

    fn reinstall_without_namespace(&self, issued: &Certificate) -> Result<()> {
        installation::uninstall(self.cluster)?;
        self.cluster.kubectl().delete(&["namespace", SYSTEM_NAMESPACE])?;
        installation::install_without_waiting(self.cluster, LIFETIMES)?;
        self.wait_for_refusal("Secret ca-accidents/")?;
        self.assert_no_ca()?;
        self.assert_unchanged("payments", issued)
    }

    fn assert_reissued_by_new_root(&self, issued: &Certificate) -> Result<()> {
        let reissued = self.wait_for_reissue("payments", issued)?;
        ensure!(reissued.root != issued.root, "the reissued certificate has the old root");
        installation::wait_for_ready(self.cluster)
    }
}
