//! Reading what `kubectl` says, and looking it up.

use anyhow::{Context as _, Result, ensure};
use certmint_contract::ErrorCode;
use certmint_docs_tests::error_page::ErrorPage;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload;
use serde_json::{Value, json};

use crate::story::PATIENCE;

/// kubectl, and the page that explains what it says.
pub(super) struct Told<'a> {
    pub(super) kubectl: Kubectl<'a>,
    image: String,
    page: ErrorPage,
}

impl<'a> Told<'a> {
    pub(super) fn new(kubectl: Kubectl<'a>, image: String) -> Result<Self> {
        Ok(Self { kubectl, image, page: ErrorPage::read()? })
    }

    /// A Deployment `name`, with that merged into its pods' spec.
    pub(super) fn deployment(&self, name: &str, annotations: &Value, pod: &Value) -> Value {
        let mut deployment = workload::manifest("deployment", name, &self.image, annotations);
        for (key, value) in pod.as_object().into_iter().flatten() {
            deployment["spec"]["template"]["spec"][key] = value.clone();
        }
        deployment
    }

    /// Applies a Deployment that opts in with those annotations beside.
    pub(super) fn opted_in(&self, name: &str, beside: &Value) -> Result<()> {
        let mut annotations = json!({ "certmint.dev/inject": "true" });
        for (key, value) in beside.as_object().into_iter().flatten() {
            annotations[key] = value.clone();
        }
        self.kubectl.apply(&self.deployment(name, &annotations, &json!({})).to_string()).map(drop)
    }

    /// Waits until `kubectl describe OBJECT` has the code, and looks up what stands after it.
    pub(super) fn describe(&self, kubectl: &Kubectl<'_>, object: &str, code: &str) -> Result<()> {
        self.described(kubectl, &[object], code)
    }

    /// The same for the Deployment `name`.
    pub(super) fn workload(&self, name: &str, code: &str) -> Result<()> {
        self.described(&self.kubectl, &[&format!("deployment/{name}")], code)
    }

    /// The same for the pods of the Deployment `name`.
    pub(super) fn pod(&self, name: &str, code: &str) -> Result<()> {
        self.described(&self.kubectl, &["pods", &format!("--selector=app={name}")], code)
    }

    /// The same for `kubectl events --for OBJECT`.
    pub(super) fn events(&self, object: &str, code: &str) -> Result<()> {
        self.says(&self.kubectl, &["events", "--for", object], code)
    }

    fn described(&self, kubectl: &Kubectl<'_>, what: &[&str], code: &str) -> Result<()> {
        self.says(kubectl, &[&["describe"], what].concat(), code)
    }

    fn says(&self, kubectl: &Kubectl<'_>, command: &[&str], code: &str) -> Result<()> {
        let shown = command.join(" ");
        let text = wait::until(&format!("kubectl {shown} to say {code}"), PATIENCE, || {
            let text = kubectl.run(command)?;
            Ok(if text.contains(code) { Observed::Yes(text) } else { Observed::NotYet(text) })
        })?;
        self.look_up(code, &text).with_context(|| format!("kubectl {shown}"))
    }

    /// Passes when the text has the code with a message that the page explains.
    pub(super) fn look_up(&self, code: &str, text: &str) -> Result<()> {
        let catalogued = ErrorCode::ALL.iter().find(|known| known.as_str() == code);
        let catalogued = *catalogued.with_context(|| format!("{code} is no code"))?;
        let message = text.split_once(code).map(|(_, after)| after).unwrap_or_default();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let found = self.page.explains(catalogued, &message);
        ensure!(found.is_some(), "the page of errors does not explain what stands after {code}: {text}");
        Ok(())
    }
}
