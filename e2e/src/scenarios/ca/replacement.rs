//! The last steps of the scenario `ca-accidents`: an operator without access to the CA's keys replaces the issuing CA.
//!
//! The steps follow the page `replace-the-issuing-ca` of the documentation. They assert that each request is carried out
//! once, that the root stays, and that certificates are reissued only if the request says so.

use anyhow::{Context as _, Result, ensure};
use certmint_certificates::ca::{CaCertificate, Tier};
use certmint_contract::lifetime::BACKDATE;
use certmint_docs_tests::book::Guide;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload;
use serde_json::{Value, json};
use time::Duration;

use super::fixture::{CONTROLLERS, CaFixture, decoded};
use crate::support::events;

/// Lifetimes of root and issuing CA, in days, that differ from the defaults.
const ROOT_DAYS: i64 = 1_825;
const ISSUING_DAYS: i64 = 120;
/// Chart values with these lifetimes.
pub(super) const LIFETIMES: &[&str] = &["ca.rootLifetime=1825d", "ca.issuingLifetime=120d"];
/// Number of workloads whose certificates are reissued. Each is reissued in its own minute of an hour, so with this
/// number the first one follows within seconds.
const WORKLOADS: usize = 200;
/// An operator in the group that the documentation's command binds to the Role.
const OPERATOR: [&str; 3] = ["--as=carol", "--as-group=pki", "--as-group=system:authenticated"];
const REQUEST: &str = "configmap/certmint-issuing-ca-request";

impl CaFixture<'_> {
    pub(super) fn assert_lifetimes(&self) -> Result<()> {
        let stored = self.stored_ca()?;
        for (tier, key, days) in
            [(Tier::Root, "root.crt", ROOT_DAYS), (Tier::Issuing, "issuing.crt", ISSUING_DAYS)]
        {
            let certificate = CaCertificate::from_pem(tier, &decoded(&stored, key)?)?;
            let lifetime = certificate.not_after() - certificate.not_before() - BACKDATE;
            ensure!(lifetime == Duration::days(days), "{key} has a lifetime of {lifetime}");
        }
        Ok(())
    }

    /// Replaces the issuing CA as the documentation says, and asserts the result of each request.
    pub(super) fn replace_issuing_ca(&self) -> Result<()> {
        let mut guide = Guide::open(self.cluster, "replace-the-issuing-ca")?;
        step("an operator gets the Role, which gives no access to the CA's keys", || {
            guide.run_through("create rolebinding")?;
            self.assert_operator_permissions()
        })?;
        step("the issuing CA is replaced as the documentation says, and certificates stay", || {
            let payments = self.wait_for_certificate("payments")?;
            let before = self.stored_ca()?;
            guide.run_through("exercise-1")?;
            self.wait_for_replacement("exercise-1")?;
            guide.run_through("reason=IssuingCaReplaced")?;
            self.assert_replaced(&before)?;
            self.opt_in("after-replacement")?;
            let new = self.wait_for_certificate("after-replacement")?;
            ensure!(new.root == payments.root, "the new certificate has another root");
            ensure!(new.issuer != payments.issuer, "the old issuing CA still issues");
            self.assert_unchanged("payments", &payments)
        })?;
        step("other controllers do not repeat the request, and refuse a malformed one", || {
            let before = self.stored_ca()?;
            self.system.delete(&["pods", CONTROLLERS])?;
            self.wait_for_ready_controllers()?;
            self.request_as_operator(&json!({ "id": "exercise-1b", "reason": "" }))?;
            self.wait_for_controller_event("RequestRefused", "request exercise-1b has no usable reason")?;
            ensure!(self.stored_ca()?["data"] == before["data"], "the CA's Secret has changed");
            Ok(())
        })?;
        step(&format!("with reissue, {WORKLOADS} certificates are reissued one after the other"), || {
            self.opt_in_many()?;
            let before = self.stored_ca()?;
            guide.finish()?;
            self.wait_for_replacement("exercise-2")?;
            self.assert_replaced(&before)?;
            self.wait_for_first_reissues()
        })
    }

    fn assert_operator_permissions(&self) -> Result<()> {
        for (verb, object, allowed) in [
            ("patch", REQUEST, true),
            ("list", "events", true),
            ("get", "secret/certmint-ca", false),
            ("patch", "secret/certmint-ca", false),
            ("create", "configmaps", false),
            ("patch", "configmap/certmint-trust-bundle", false),
        ] {
            let mut can_i = self.system.command(&["auth", "can-i", verb, object]);
            let output = can_i.args(OPERATOR).output().context("cannot start kubectl")?;
            let answer = String::from_utf8_lossy(&output.stdout);
            let expected = if allowed { "yes" } else { "no" };
            ensure!(answer.trim().starts_with(expected), "may an operator {verb} {object}: {answer}");
        }
        Ok(())
    }

    fn request_as_operator(&self, data: &Value) -> Result<()> {
        let patch = json!({ "data": data }).to_string();
        let arguments = ["patch", REQUEST, "--type=merge", "--patch", &patch];
        self.system.run(&[&arguments[..], &OPERATOR].concat()).map(drop)
    }

    fn wait_for_controller_event(&self, reason: &str, words: &str) -> Result<()> {
        let deployment = "Deployment/certmint-controller";
        let event = events::wait_for_event(&self.system, deployment, reason, |note| note.contains(words))?;
        note(&event);
        Ok(())
    }

    fn wait_for_replacement(&self, id: &str) -> Result<()> {
        self.wait_for_controller_event("IssuingCaReplaced", &format!("as request {id} ("))
    }

    /// Asserts that the Secret has another issuing CA than `before`, of the same root, and keeps no previous one.
    fn assert_replaced(&self, before: &Value) -> Result<()> {
        let after = self.stored_ca()?;
        for key in ["root.crt", "root.key"] {
            ensure!(after["data"][key] == before["data"][key], "{key} changed");
        }
        for key in ["issuing.crt", "issuing.key"] {
            ensure!(after["data"][key] != before["data"][key], "{key} did not change");
        }
        for key in ["previous-issuing.crt", "previous-issuing.key"] {
            let kept = after["data"][key].as_str().unwrap_or_default();
            ensure!(kept.is_empty(), "the replaced issuing CA is still in {key}");
        }
        Ok(())
    }

    /// Opts in Deployments without pods, and waits until each has its certificate.
    fn opt_in_many(&self) -> Result<()> {
        let annotations = workload::opt_in_annotations(&[]);
        let deployments: Vec<Value> = (0..WORKLOADS)
            .map(|index| workload::deployment_without_pods(&format!("many-{index}"), &annotations))
            .collect();
        self.kubectl
            .apply(&json!({ "apiVersion": "v1", "kind": "List", "items": deployments }).to_string())?;
        wait::until(&format!("{WORKLOADS} certificates"), DEFAULT_TIMEOUT, || {
            let found = self.issued_reasons()?.len();
            Ok(if found >= WORKLOADS { Check::Passed(()) } else { Check::NotYet(found.to_string()) })
        })
    }

    /// Waits until the first certificates are reissued because of the replacement. By then, most are not reissued yet.
    fn wait_for_first_reissues(&self) -> Result<()> {
        let reissued = wait::until("a certificate reissued by the new issuing CA", DEFAULT_TIMEOUT, || {
            let reasons = self.issued_reasons()?;
            let count = reasons.iter().filter(|reason| *reason == "issuing CA replaced").count();
            Ok(if count > 0 {
                Check::Passed(count)
            } else {
                Check::NotYet(format!("{} certificates", reasons.len()))
            })
        })?;
        note(&format!("{reissued} of {WORKLOADS} certificates are reissued"));
        ensure!(reissued < WORKLOADS / 2, "{reissued} certificates were reissued at once");
        Ok(())
    }

    /// Returns the reason of each certificate in the scenario's namespace.
    fn issued_reasons(&self) -> Result<Vec<String>> {
        let secrets = self.kubectl.list(&["secrets", "--selector=certmint.dev/managed=true"])?;
        let reason = |secret: &Value| {
            let reason = &secret["metadata"]["annotations"]["certmint.dev/reason"];
            reason.as_str().unwrap_or_default().to_owned()
        };
        Ok(secrets.iter().map(reason).collect())
    }
}
