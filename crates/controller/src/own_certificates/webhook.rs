//! Keeps the webhook's certificate valid. The leader writes the certificate to the webhook's Secret, and writes the
//! roots to `caBundle` in the webhook configuration, so that the API server trusts the webhook.

use std::time::Duration;

use certmint_certificates::{ExpectedIdentity, ExpectedLeaf, IssuedLeaf};
use certmint_contract::lifetime::renew_at;
use certmint_contract::{ErrorCode, Lifetime, Policy, SpiffeId, TrustBundle, keys, rfc3339};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{OwnCertificateError, OwnService};
use crate::api::{self, ApiError, ApiErrorKind};
use crate::ca::Ca;
use crate::clock;
use crate::issuer::{Issuer, IssuerError};
use crate::secrets::{Metadata, Secret, Secrets, content};

/// Lifetime of the certificate: 30 days. It is renewed at two thirds, so ten days remain to notice that renewal fails.
const LIFETIME: Lifetime = Lifetime::from_seconds(30 * 86_400);
/// Interval at which Secret and configuration are checked. An upgrade of the chart can add an entry without `caBundle`
/// to the configuration.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Names of the webhook's objects.
#[derive(Clone, Debug)]
pub(crate) struct WebhookNames {
    /// Secret that the webhook's pods mount.
    pub(crate) secret: String,
    /// MutatingWebhookConfiguration.
    pub(crate) configuration: String,
}

/// Keeps the webhook's Secret and `caBundle` up to date, on the leader.
pub(crate) struct WebhookCertificate {
    /// Client for the API server, which writes only on the leader.
    pub(crate) client: Client,
    /// The webhook's Service.
    pub(crate) service: OwnService,
    /// Names of the objects.
    pub(crate) names: WebhookNames,
    /// Issuer of the webhook's certificate.
    pub(crate) issuer: Issuer,
}

impl WebhookCertificate {
    /// Checks both objects at each [`CHECK_INTERVAL`] and when the CA changes; never returns.
    pub(crate) async fn keep(&self) {
        let mut ca = self.issuer.ca.clone();
        loop {
            let current = ca.borrow_and_update().clone();
            match self.update(&current).await {
                // The CA's keeper reports a clock that differs.
                Ok(()) | Err(OwnCertificateError::Issuer(IssuerError::Clock(_))) => {}
                Err(error) => {
                    tracing::warn!(code = %error.code(), %error, "could not renew the certificate of the webhook; the controller retries");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
                Ok(()) = ca.changed() => {}
            }
        }
    }

    async fn update(&self, ca: &Ca) -> Result<(), OwnCertificateError> {
        let Some(trust_bundle) = &ca.trust_bundle else { return Ok(()) };
        // The API server must trust the new roots before the webhook uses a certificate of them.
        self.update_ca_bundle(&trust_bundle.roots).await?;
        self.update_secret(trust_bundle).await
    }

    async fn update_secret(&self, trust_bundle: &TrustBundle) -> Result<(), OwnCertificateError> {
        let secrets = Secrets::new(self.client.clone(), self.service.namespace.as_str());
        let policy = self.issuer.policy.borrow().clone();
        let found = secrets.get(&self.names.secret).await?;
        if found.as_ref().is_some_and(|secret| self.is_current(secret, &policy, trust_bundle)) {
            return Ok(());
        }
        if found.as_ref().is_some_and(|secret| !was_created_by_certmint(secret)) {
            let name = format!("{}/{}", self.service.namespace, self.names.secret);
            return Err(OwnCertificateError::ForeignSecret(name));
        }
        let issued = self.service.issue(&self.issuer, LIFETIME).await?;
        let (metadata, content) = (metadata(&issued), content::of(&issued.bundle));
        match &found {
            None => secrets.create(&self.names.secret, metadata, &content).await?,
            Some(seen) => secrets.replace(&seen.version(), metadata, &content).await?,
        };
        tracing::info!(
            serial = issued.facts.serial,
            not_after = rfc3339(issued.facts.not_after),
            "renewed the certificate of the webhook"
        );
        Ok(())
    }

    /// Returns whether the certificate verifies for the webhook's names with the present trust bundle, and is not due
    /// for renewal.
    fn is_current(&self, secret: &Secret, policy: &Policy, trust_bundle: &TrustBundle) -> bool {
        let dns_names = self.service.dns_names(policy);
        let path = SpiffeId::path(&self.service.namespace, &self.service.service_account);
        let expected = ExpectedLeaf { dns_names: Some(&dns_names), identity: ExpectedIdentity::Path(&path) };
        let now = clock::now();
        content::verify_content(secret, &expected, trust_bundle, now).is_ok_and(|verified| {
            let renewal = renew_at(verified.facts.not_before, verified.facts.not_after, 0);
            verified.generation == trust_bundle.generation && now < renewal
        })
    }

    /// Sets `caBundle` in each entry where it differs.
    ///
    /// The call is a JSON patch for the version that was read. With server-side apply, the controller would own parts
    /// of the chart's entries.
    async fn update_ca_bundle(&self, roots: &str) -> Result<(), ApiError> {
        let api = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let name = &self.names.configuration;
        let call = |verb| format!("{verb} MutatingWebhookConfiguration {name}");
        let Some(found) = api::optional(api::call(call("get"), api.get(name)).await)? else {
            let code = ErrorCode::WebhookMissing;
            tracing::warn!(%code, name, "the MutatingWebhookConfiguration does not exist, so nothing is injected; run helm upgrade to restore it");
            return Ok(());
        };
        let Some(patch) = ca_bundle_patch(&found, roots) else { return Ok(()) };
        let patch = Patch::<()>::Json(patch);
        match api::call(call("patch"), api.patch(name, &api::patch_params(), &patch)).await {
            Ok(_) => tracing::info!(name, "wrote the roots to caBundle"),
            // Another program wrote at the same time. The next check reads the new version.
            Err(error)
                if matches!(
                    error.kind(),
                    ApiErrorKind::Conflict | ApiErrorKind::Rejected { code: 422, .. }
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn was_created_by_certmint(secret: &Secret) -> bool {
    secret.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(keys::SERIAL))
}

fn metadata(issued: &IssuedLeaf) -> Metadata {
    let facts = &issued.facts;
    let annotations = json!({
        (keys::SPIFFE_ID): facts.spiffe_id,
        (keys::ISSUER): facts.issuer,
        (keys::SERIAL): facts.serial,
        (keys::NOT_AFTER): rfc3339(facts.not_after),
    });
    Metadata::from_iter([("annotations".into(), annotations)])
}

/// Returns the patch that sets `caBundle` to the roots in each entry where it differs, or `None` if no entry differs.
fn ca_bundle_patch(found: &MutatingWebhookConfiguration, roots: &str) -> Option<json_patch::Patch> {
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
    // The first operation only tests the version.
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
    fn patches_only_entries_that_differ() {
        let patch = ca_bundle_patch(&configuration(&[Some("roots"), None, Some("old")]), "roots").unwrap();
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
    fn patches_nothing_if_no_entry_differs() {
        assert_eq!(ca_bundle_patch(&configuration(&[Some("roots")]), "roots"), None);
    }
}
