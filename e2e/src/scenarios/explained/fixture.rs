//! The fixture of the scenario `explained`: it creates Deployments, and compares the output of kubectl with the page of
//! errors.

use anyhow::{Context as _, Result, ensure};
use certmint_contract::ErrorCode;
use certmint_docs_tests::error_page::ErrorPage;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload;
use serde_json::{Value, json};

/// The scenario's namespace, and the page of errors, which must explain the output of kubectl.
pub(super) struct ExplainedFixture<'a> {
    pub(super) kubectl: Kubectl<'a>,
    image: String,
    page: ErrorPage,
}

impl<'a> ExplainedFixture<'a> {
    pub(super) fn new(kubectl: Kubectl<'a>, image: String) -> Result<Self> {
        Ok(Self { kubectl, image, page: ErrorPage::read()? })
    }

    /// Returns a Deployment whose pod spec has the fields of `pod_spec` in addition.
    pub(super) fn deployment(&self, name: &str, annotations: &Value, pod_spec: &Value) -> Value {
        let mut deployment = workload::manifest("deployment", name, &self.image, annotations);
        for (key, value) in pod_spec.as_object().into_iter().flatten() {
            deployment["spec"]["template"]["spec"][key] = value.clone();
        }
        deployment
    }

    /// Applies a Deployment that opts in and has these annotations in addition.
    pub(super) fn apply_opted_in(&self, name: &str, further: &Value) -> Result<()> {
        let mut annotations = json!({ "certmint.dev/inject": "true" });
        for (key, value) in further.as_object().into_iter().flatten() {
            annotations[key] = value.clone();
        }
        self.kubectl.apply(&self.deployment(name, &annotations, &json!({})).to_string()).map(drop)
    }

    /// Waits until `kubectl describe OBJECT` prints the code, and asserts that the page of errors explains the
    /// message.
    pub(super) fn wait_for_object_code(&self, kubectl: &Kubectl<'_>, object: &str, code: &str) -> Result<()> {
        self.wait_for_code(kubectl, &["describe", object], code)
    }

    /// Waits like [`Self::wait_for_object_code`], for the Deployment `name`.
    pub(super) fn wait_for_deployment_code(&self, name: &str, code: &str) -> Result<()> {
        self.wait_for_code(&self.kubectl, &["describe", &format!("deployment/{name}")], code)
    }

    /// Waits like [`Self::wait_for_object_code`], for the pods of the Deployment `name`.
    pub(super) fn wait_for_pod_code(&self, name: &str, code: &str) -> Result<()> {
        self.wait_for_code(&self.kubectl, &["describe", "pods", &format!("--selector=app={name}")], code)
    }

    /// Waits like [`Self::wait_for_object_code`], for the output of `kubectl events --for OBJECT`.
    pub(super) fn wait_for_event_code(&self, object: &str, code: &str) -> Result<()> {
        self.wait_for_code(&self.kubectl, &["events", "--for", object], code)
    }

    fn wait_for_code(&self, kubectl: &Kubectl<'_>, command: &[&str], code: &str) -> Result<()> {
        let shown = command.join(" ");
        let text = wait::until(&format!("kubectl {shown} to print {code}"), DEFAULT_TIMEOUT, || {
            let text = kubectl.run(command)?;
            Ok(if text.contains(code) { Check::Passed(text) } else { Check::NotYet(text) })
        })?;
        self.assert_explained(code, &text).with_context(|| format!("kubectl {shown}"))
    }

    /// Asserts that the text contains the code, and that the page of errors explains the message after it.
    pub(super) fn assert_explained(&self, code: &str, text: &str) -> Result<()> {
        let known = ErrorCode::ALL.iter().find(|known| known.as_str() == code);
        let known = *known.with_context(|| format!("{code} is not an error code"))?;
        let message = text.split_once(code).map(|(_, after)| after).unwrap_or_default();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let explanation = self.page.explains(known, &message);
        ensure!(
            explanation.is_some(),
            "the page of errors does not explain the message after {code}: {text}"
        );
        Ok(())
    }
}
