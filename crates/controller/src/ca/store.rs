//! Reads and writes the CA's Secret, and the public ConfigMap with the trusted roots.

use std::borrow::Cow;
use std::collections::BTreeMap;

use certmint_certificates::ca::parse_roots;
use certmint_certificates::{Authority, AuthorityPem, CaCertificate, CaError, CaPem};
use certmint_contract::TrustBundle;
use certmint_contract::pod_layout::{TRUST_BUNDLE_FILE, TRUST_GENERATION_FILE};
use kube::Client;
use kube::api::ObjectMeta;
use serde_json::json;
use zeroize::Zeroizing;

use super::CaFault;
use super::stored_state::CaState;
use crate::api::{self, ApiError, ApiErrorKind};
use crate::config_maps::ConfigMaps;
use crate::secrets::{Metadata, NewContent, Secret, Secrets, version_of};

/// Names of the CA's objects.
#[derive(Clone, Debug)]
pub(crate) struct CaNames {
    /// The controller's own namespace.
    pub(crate) namespace: String,
    /// Secret with the keys.
    pub(crate) secret: String,
    /// ConfigMap with the trust bundle, which contains the roots.
    pub(crate) bundle: String,
    /// ConfigMap with an operator's request for a new issuing CA.
    pub(crate) issuing_request: String,
}

/// Reads and writes the CA's objects.
pub(crate) struct CaStore {
    names: CaNames,
    secrets: Secrets,
    config_maps: ConfigMaps,
}

/// What happens to the previous issuing CA in the Secret.
#[derive(Clone, Copy, Debug)]
pub(super) enum PreviousIssuingCa {
    /// The issuing CA that is replaced takes its place.
    Replaced,
    /// It stays.
    Kept,
    /// It is removed.
    Removed,
}

/// Content of the CA's Secret.
pub(super) struct StoredCa {
    /// Metadata with the version. A write replaces the Secret only if it still has this version.
    pub(super) metadata: ObjectMeta,
    secret_type: String,
    /// [`CaState`] as JSON, not checked yet. Secrets of version 0.1.0 have none.
    pub(super) state: Option<String>,
    /// Roots with the key of the first, and the issuing CA; not checked yet.
    pub(super) pem: AuthorityPem,
    /// Issuing CA that was replaced last; empty if none was replaced.
    pub(super) previous: CaPem,
    /// Request for a certificate from an offline root, not checked yet; empty if none waits. `None` if the CA was created
    /// with a generated root.
    pub(super) request: Option<StoredRequest>,
}

/// Request in the CA's Secret.
pub(super) struct StoredRequest {
    /// PKCS#10, as PEM.
    pub(super) request: String,
    /// Key of the requested issuing CA, as PKCS#8 in PEM.
    pub(super) key: Zeroizing<String>,
}

/// The published trust bundle.
pub(super) struct Published {
    /// Roots and generation, not checked yet.
    pub(super) trust_bundle: TrustBundle,
    /// `metadata.resourceVersion` of the ConfigMap.
    resource_version: String,
}

// Keys in the Secret's data.
const ROOT_CERTIFICATE: &str = "root.crt";
const ROOT_KEY: &str = "root.key";
const ISSUING_CERTIFICATE: &str = "issuing.crt";
const ISSUING_KEY: &str = "issuing.key";
const PREVIOUS_CERTIFICATE: &str = "previous-issuing.crt";
const PREVIOUS_KEY: &str = "previous-issuing.key";
const REQUEST: &str = "request.csr";
const REQUEST_KEY: &str = "request.key";
const STATE: &str = "state.json";

impl CaStore {
    pub(crate) fn new(client: Client, names: CaNames) -> Self {
        let secrets = Secrets::new(client.clone(), &names.namespace);
        let config_maps = ConfigMaps::new(client, &names.namespace);
        Self { names, secrets, config_maps }
    }

    /// Returns a fault that an operator must resolve.
    pub(super) fn refuse(&self, why: String) -> CaFault {
        let CaNames { namespace, secret, bundle, .. } = &self.names;
        CaFault::Refused {
            secret: format!("{namespace}/{secret}"),
            bundle: format!("{namespace}/{bundle}"),
            why,
        }
    }

    /// Reads the Secret, if it exists. A key that its `data` lacks becomes an empty text, which is not valid PEM.
    pub(super) async fn read(&self) -> Result<Option<StoredCa>, ApiError> {
        let found = self.secrets.get(&self.names.secret).await?;
        Ok(found.map(|secret| StoredCa {
            pem: AuthorityPem {
                root: pair(&secret, ROOT_CERTIFICATE, ROOT_KEY),
                issuing: pair(&secret, ISSUING_CERTIFICATE, ISSUING_KEY),
            },
            previous: pair(&secret, PREVIOUS_CERTIFICATE, PREVIOUS_KEY),
            // A state that is not a text is an unknown state.
            state: secret.has(STATE).then(|| secret.text(STATE).unwrap_or_default().to_owned()),
            request: secret.has(REQUEST_KEY).then(|| {
                let CaPem { certificate, private_key } = pair(&secret, REQUEST, REQUEST_KEY);
                StoredRequest { request: certificate, key: private_key }
            }),
            metadata: secret.metadata,
            secret_type: secret.secret_type,
        }))
    }

    /// Writes a new CA. An existing Secret is not changed ([`ApiErrorKind::AlreadyExists`]).
    pub(super) async fn create(&self, authority: &Authority) -> Result<(), CaFault> {
        let (pem, roots) = (authority.to_pem()?, issuing_root_first(authority)?);
        let state = CaState::new(authority.trust_bundle().generation);
        let content = NewContent { secret_type: "Opaque", data: data(&pem, &roots, &state) };
        self.secrets.create(&self.names.secret, Metadata::new(), &content).await?;
        Ok(())
    }

    /// Replaces the CA that was read.
    pub(super) async fn replace(
        &self,
        stored: &StoredCa,
        previous: PreviousIssuingCa,
        authority: &Authority,
        state: &CaState,
    ) -> Result<(), CaFault> {
        let (pem, roots) = (authority.to_pem()?, issuing_root_first(authority)?);
        let mut data = data(&pem, &roots, state);
        let CaPem { certificate, private_key } = &stored.pem.issuing;
        let previous = match previous {
            PreviousIssuingCa::Replaced => Some((certificate.as_str(), private_key.as_str())),
            PreviousIssuingCa::Kept => None,
            PreviousIssuingCa::Removed => Some(("", "")),
        };
        if let Some((certificate, key)) = previous {
            data.extend([(PREVIOUS_CERTIFICATE, certificate.into()), (PREVIOUS_KEY, key.into())]);
        }
        if stored.request.is_some() {
            data.extend([(REQUEST, "".into()), (REQUEST_KEY, "".into())]);
        }
        // The API server rejects a change of the type. So the Secret keeps its type, even if a user restored it with
        // another type than Certmint's.
        let content = NewContent { secret_type: &stored.secret_type, data };
        self.secrets.replace(&version_of(&stored.metadata), Metadata::new(), &content).await?;
        Ok(())
    }

    /// Reads the data of an operator's request for a new issuing CA. It is empty if there is none.
    pub(super) async fn issuing_request(&self) -> Result<BTreeMap<String, String>, ApiError> {
        let found = api::optional(self.config_maps.get(&self.names.issuing_request).await)?;
        Ok(found.and_then(|request| request.data).unwrap_or_default())
    }

    /// Writes a request into the Secret that was read, or into a new Secret. The other entries of the Secret do not change.
    pub(super) async fn write_request(
        &self,
        stored: Option<&StoredCa>,
        request: &str,
        key: &str,
    ) -> Result<(), CaFault> {
        let data = vec![(REQUEST, request.into()), (REQUEST_KEY, key.into())];
        let Some(stored) = stored else {
            let content = NewContent { secret_type: "Opaque", data };
            self.secrets.create(&self.names.secret, Metadata::new(), &content).await?;
            return Ok(());
        };
        let content = NewContent { secret_type: &stored.secret_type, data };
        self.secrets.replace(&version_of(&stored.metadata), Metadata::new(), &content).await?;
        Ok(())
    }

    /// Reads the published trust bundle, if the ConfigMap exists. A generation that cannot be read counts as the first:
    /// the roots decide whether the trust bundle belongs to the CA.
    pub(super) async fn published(&self) -> Result<Option<Published>, ApiError> {
        let found = api::optional(self.config_maps.get(&self.names.bundle).await)?;
        Ok(found.map(|bundle| {
            let mut data = bundle.data.unwrap_or_default();
            let generation = data.remove(TRUST_GENERATION_FILE).and_then(|text| text.parse().ok());
            Published {
                trust_bundle: TrustBundle {
                    roots: data.remove(TRUST_BUNDLE_FILE).unwrap_or_default(),
                    generation: generation.unwrap_or_default(),
                },
                resource_version: bundle.metadata.resource_version.unwrap_or_default(),
            }
        }))
    }

    /// Publishes a newer trust bundle in the ConfigMap that was read. If another client changed it in the meantime, the
    /// next check compares it with the Secret again.
    pub(super) async fn update_published(
        &self,
        read: &Published,
        trust_bundle: &TrustBundle,
    ) -> Result<(), ApiError> {
        let patch = json!({
            "metadata": { "resourceVersion": read.resource_version },
            "data": published_data(trust_bundle),
        });
        match self.config_maps.patch(&self.names.bundle, patch).await {
            Err(error) if !matches!(error.kind(), ApiErrorKind::Conflict) => Err(error),
            _ => Ok(()),
        }
    }

    /// Publishes the trust bundle. An existing ConfigMap is not changed; the next check compares it with the Secret.
    pub(super) async fn publish(&self, trust_bundle: &TrustBundle) -> Result<(), ApiError> {
        self.config_maps.create(&self.names.bundle, published_data(trust_bundle)).await
    }
}

impl StoredCa {
    /// Returns whether the Secret contains only a request, for the first certificate of an issuing CA.
    pub(super) fn awaits_first_certificate(&self) -> bool {
        let AuthorityPem { root, issuing } = &self.pem;
        self.request.is_some() && root.certificate.is_empty() && issuing.certificate.is_empty()
    }
}

fn published_data(TrustBundle { roots, generation }: &TrustBundle) -> BTreeMap<String, String> {
    [(TRUST_BUNDLE_FILE, roots.clone()), (TRUST_GENERATION_FILE, generation.to_string())]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

fn pair(secret: &Secret, certificate: &str, key: &str) -> CaPem {
    let text = |key| secret.text(key).unwrap_or_default().to_owned();
    CaPem { certificate: text(certificate), private_key: Zeroizing::new(text(key)) }
}

/// Returns all trusted roots as PEM, the root of the issuing CA first.
fn issuing_root_first(authority: &Authority) -> Result<String, CaError> {
    let issuing = authority.root().certificate();
    let trusted = parse_roots(&authority.trust_bundle().roots)?;
    let others = trusted.iter().filter(|root| *root != issuing);
    Ok(std::iter::once(issuing).chain(others).map(CaCertificate::pem).collect())
}

fn data<'a>(pem: &'a AuthorityPem, roots: &'a str, state: &CaState) -> Vec<(&'static str, Cow<'a, str>)> {
    vec![
        (ROOT_CERTIFICATE, roots.into()),
        (ROOT_KEY, pem.root.private_key.as_str().into()),
        (ISSUING_CERTIFICATE, pem.issuing.certificate.as_str().into()),
        (ISSUING_KEY, pem.issuing.private_key.as_str().into()),
        (STATE, state.to_json().into()),
    ]
}
