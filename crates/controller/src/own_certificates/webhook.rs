//! The webhook's certificate: written into its Secret by the leader, and its roots into the caBundle of the
//! webhook configuration, which is how the API server comes to trust it.

use super::{OwnCertificateError, Server};
use crate::{
    api::{self, ApiError, Fault},
    ca::Ca,
    clock::{self, Clock},
    secrets::{Metadata, Secret, Secrets, content},
};
use certmint_certificates::{Expected, Identity, Issued};
use certmint_contract::{ErrorCode, Lifetime, Policy, SpiffeId, keys, lifetime::renew_at, rfc3339};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client, api::Patch};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// A month: renewed at two thirds, it leaves ten days to notice that nobody renews it.
const LIFETIME: Lifetime = Lifetime::from_seconds(30 * 86_400);
/// How soon an entry that an upgrade added to the configuration gets its caBundle.
const PACE: Duration = Duration::from_secs(10);

/// What belongs to the webhook.
#[derive(Clone, Debug)]
pub(crate) struct WebhookNames {
    /// The Secret its pods mount.
    pub(crate) secret: String,
    /// The MutatingWebhookConfiguration.
    pub(crate) configuration: String,
}

/// Looks after them, while leading.
pub(crate) struct WebhookCertificate {
    /// The API server.
    pub(crate) client: Client,
    /// Who serves.
    pub(crate) server: Server,
    /// What belongs to it.
    pub(crate) names: WebhookNames,
    /// What certificates are dated by.
    pub(crate) clock: Clock,
    /// What signs.
    pub(crate) ca: watch::Receiver<Ca>,
    /// The policy in force.
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
}

impl WebhookCertificate {
    /// Looks at both again and again; never returns.
    pub(crate) async fn keep(&self) {
        let mut ca = self.ca.clone();
        loop {
            let now = ca.borrow_and_update().clone();
            match self.look(&now).await {
                // Whoever looks after the CA tells of the clock.
                Ok(()) | Err(OwnCertificateError::Clock(_)) => {}
                Err(error) => {
                    tracing::warn!(code = %error.code(), %error, "the webhook's certificate was not seen to; this is tried again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                Ok(()) = ca.changed() => {}
            }
        }
    }

    async fn look(&self, ca: &Ca) -> Result<(), OwnCertificateError> {
        let Some(roots) = &ca.roots else { return Ok(()) };
        self.keep_secret(ca, roots).await?;
        Ok(self.keep_bundle(roots).await?)
    }

    async fn keep_secret(&self, ca: &Ca, roots: &str) -> Result<(), OwnCertificateError> {
        let secrets = Secrets::new(self.client.clone(), self.server.namespace.as_str());
        let policy = self.policy.borrow().clone();
        let found = secrets.get(&self.names.secret).await?;
        if found.as_ref().is_some_and(|secret| self.is_good(secret, &policy, roots)) {
            return Ok(());
        }
        if found.as_ref().is_some_and(|secret| !is_ours(secret)) {
            let name = format!("{}/{}", self.server.namespace, self.names.secret);
            return Err(OwnCertificateError::ForeignSecret(name));
        }
        let issued = self.server.issue(ca, &policy, LIFETIME, &self.clock)?;
        let (metadata, content) = (metadata(&issued), content::of(&issued.bundle));
        match &found {
            None => secrets.create(&self.names.secret, metadata, &content).await?,
            Some(seen) => secrets.replace(&seen.version(), metadata, &content).await?,
        };
        tracing::info!(
            serial = issued.facts.serial,
            not_after = rfc3339(issued.facts.not_after),
            "the webhook has a new certificate"
        );
        Ok(())
    }

    /// It verifies for the webhook's names against the roots in force, and is not due for renewal.
    fn is_good(&self, secret: &Secret, policy: &Policy, roots: &str) -> bool {
        let dns_names = self.server.dns_names(policy);
        let path = SpiffeId::path(&self.server.namespace, &self.server.service_account);
        let expected = Expected { dns_names: Some(&dns_names), identity: Identity::Path(&path) };
        let now = clock::now();
        content::verified(secret, &expected, roots, now)
            .is_ok_and(|(_, facts)| now < renew_at(facts.not_before, facts.not_after, 0))
    }

    /// Sets caBundle wherever it differs. A JSON patch, because a server-side apply would own the entries of
    /// the chart, and only of the version that was read.
    async fn keep_bundle(&self, roots: &str) -> Result<(), ApiError> {
        let api = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let name = &self.names.configuration;
        let call = |verb| format!("{verb} MutatingWebhookConfiguration {name}");
        let Some(found) = api::optional(api::call(call("get"), api.get(name)).await)? else {
            let code = ErrorCode::WebhookMissing;
            tracing::warn!(%code, name, "there is no such MutatingWebhookConfiguration, so nothing is injected; helm upgrade restores it");
            return Ok(());
        };
        let Some(patch) = bundle_patch(&found, roots) else { return Ok(()) };
        let patch = Patch::<()>::Json(patch);
        match api::call(call("patch"), api.patch(name, &api::patch_params(), &patch)).await {
            Ok(_) => tracing::info!(name, "wrote the roots into caBundle"),
            // Somebody wrote at the same time: the next look is at what that made of it.
            Err(error) if matches!(error.fault(), Fault::Conflict | Fault::Refused { code: 422, .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_ours(secret: &Secret) -> bool {
    secret.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(keys::SERIAL))
}

fn metadata(issued: &Issued) -> Metadata {
    let facts = &issued.facts;
    let annotations = json!({
        (keys::SPIFFE_ID): facts.spiffe_id,
        (keys::ISSUER): facts.issuer,
        (keys::SERIAL): facts.serial,
        (keys::NOT_AFTER): rfc3339(facts.not_after),
    });
    Metadata::from_iter([("annotations".into(), annotations)])
}

/// The patch that makes every entry's caBundle the roots, if one is needed.
fn bundle_patch(found: &MutatingWebhookConfiguration, roots: &str) -> Option<json_patch::Patch> {
    let mut operations = vec![json!({
        "op": "test", "path": "/metadata/resourceVersion", "value": found.metadata.resource_version,
    })];
    for (index, webhook) in found.webhooks.iter().flatten().enumerate() {
        let present = webhook.client_config.ca_bundle.as_ref().map(|bundle| &*bundle.0);
        if present != Some(roots.as_bytes()) {
            let bundle = k8s_openapi::ByteString(roots.into());
            let path = format!("/webhooks/{index}/clientConfig/caBundle");
            operations.push(json!({ "op": "add", "path": path, "value": bundle }));
        }
    }
    if operations.len() == 1 {
        return None;
    }
    serde_json::from_value(Value::Array(operations)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundles: &[Option<&str>]) -> MutatingWebhookConfiguration {
        let webhooks: Vec<Value> = bundles
            .iter()
            .map(|bundle| {
                let bundle = bundle.map(|text| k8s_openapi::ByteString(text.into()));
                json!({
                    "name": "pods.certmint.dev", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                    "clientConfig": { "caBundle": bundle },
                })
            })
            .collect();
        serde_json::from_value(json!({ "metadata": { "resourceVersion": "7" }, "webhooks": webhooks }))
            .unwrap()
    }

    #[test]
    fn only_entries_that_differ_are_patched_in_the_version_that_was_seen() {
        let patch = bundle_patch(&configuration(&[Some("roots"), None, Some("old")]), "roots").unwrap();
        assert_eq!(
            serde_json::to_value(patch).unwrap(),
            json!([
                { "op": "test", "path": "/metadata/resourceVersion", "value": "7" },
                { "op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "cm9vdHM=" },
                { "op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": "cm9vdHM=" },
            ])
        );
    }

    #[test]
    fn nothing_is_written_when_all_is_right() {
        assert_eq!(bundle_patch(&configuration(&[Some("roots")]), "roots"), None);
    }
}
