//! Reads and writes the CA's Secret, and the public ConfigMap with the trusted roots.

use certmint_certificates::{Authority, AuthorityPem, CaPem};
use certmint_contract::pod_layout::TRUST_BUNDLE_FILE;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use kube::{Api, Client};
use zeroize::Zeroizing;

use super::CaFault;
use crate::api::{self, ApiError, ApiErrorKind};
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
}

/// Reads and writes the CA's objects.
pub(crate) struct CaStore {
    names: CaNames,
    secrets: Secrets,
    bundles: Api<ConfigMap>,
}

/// Content of the CA's Secret.
pub(super) struct StoredCa {
    /// Metadata with the version. A write replaces the Secret only if it still has this version.
    pub(super) metadata: ObjectMeta,
    secret_type: String,
    /// Root and issuing CA, not checked yet.
    pub(super) pem: AuthorityPem,
    /// Issuing CA that was replaced last; empty if none was replaced.
    pub(super) previous: CaPem,
}

// Keys in the Secret's data.
const ROOT_CERTIFICATE: &str = "root.crt";
const ROOT_KEY: &str = "root.key";
const ISSUING_CERTIFICATE: &str = "issuing.crt";
const ISSUING_KEY: &str = "issuing.key";
const PREVIOUS_CERTIFICATE: &str = "previous-issuing.crt";
const PREVIOUS_KEY: &str = "previous-issuing.key";

impl CaStore {
    pub(crate) fn new(client: Client, names: CaNames) -> Self {
        let secrets = Secrets::new(client.clone(), &names.namespace);
        let bundles = Api::namespaced(client, &names.namespace);
        Self { names, secrets, bundles }
    }

    /// Returns a fault that an operator must resolve.
    pub(super) fn refuse(&self, why: String) -> CaFault {
        let CaNames { namespace, secret, bundle } = &self.names;
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
            metadata: secret.metadata,
            secret_type: secret.secret_type,
        }))
    }

    /// Writes a new CA. An existing Secret is not changed ([`ApiErrorKind::AlreadyExists`]).
    pub(super) async fn create(&self, authority: &Authority) -> Result<(), CaFault> {
        let pem = authority.to_pem()?;
        let content = NewContent { secret_type: "Opaque", data: data(&pem) };
        self.secrets.create(&self.names.secret, Metadata::new(), &content).await?;
        Ok(())
    }

    /// Replaces the CA that was read. If its issuing CA `was_usable`, the Secret keeps that CA as the previous issuing
    /// CA. Otherwise the previous issuing CA in the Secret does not change.
    pub(super) async fn replace(
        &self,
        stored: &StoredCa,
        was_usable: bool,
        authority: &Authority,
    ) -> Result<(), CaFault> {
        let pem = authority.to_pem()?;
        let mut data = data(&pem);
        if was_usable {
            let CaPem { certificate, private_key } = &stored.pem.issuing;
            data.extend([(PREVIOUS_CERTIFICATE, &**certificate), (PREVIOUS_KEY, private_key)]);
        }
        // The API server rejects a change of the type. So the Secret keeps its type, even if a user restored it with
        // another type than Certmint's.
        let content = NewContent { secret_type: &stored.secret_type, data };
        self.secrets.replace(&version_of(&stored.metadata), Metadata::new(), &content).await?;
        Ok(())
    }

    /// Reads the published roots (PEM), if the ConfigMap exists.
    pub(super) async fn published_roots(&self) -> Result<Option<String>, ApiError> {
        let call = format!("get ConfigMap {}", self.bundle_name());
        let found = api::optional(api::call(call, self.bundles.get(&self.names.bundle)).await)?;
        Ok(found.map(|bundle| bundle.data.unwrap_or_default().remove(TRUST_BUNDLE_FILE).unwrap_or_default()))
    }

    /// Publishes the roots. An existing ConfigMap is not changed; the next check compares it with the Secret.
    pub(super) async fn publish_roots(&self, roots: &str) -> Result<(), ApiError> {
        let bundle = ConfigMap {
            metadata: ObjectMeta { name: Some(self.names.bundle.clone()), ..ObjectMeta::default() },
            data: Some([(TRUST_BUNDLE_FILE.to_owned(), roots.to_owned())].into()),
            ..ConfigMap::default()
        };
        let call = format!("create ConfigMap {}", self.bundle_name());
        match api::call(call, self.bundles.create(&api::post_params(), &bundle)).await {
            Err(error) if !matches!(error.kind(), ApiErrorKind::AlreadyExists) => Err(error),
            _ => Ok(()),
        }
    }

    fn bundle_name(&self) -> String {
        format!("{}/{}", self.names.namespace, self.names.bundle)
    }
}

fn pair(secret: &Secret, certificate: &str, key: &str) -> CaPem {
    let text = |key| secret.text(key).unwrap_or_default().to_owned();
    CaPem { certificate: text(certificate), private_key: Zeroizing::new(text(key)) }
}

fn data(pem: &AuthorityPem) -> Vec<(&'static str, &str)> {
    vec![
        (ROOT_CERTIFICATE, &*pem.root.certificate),
        (ROOT_KEY, &pem.root.private_key),
        (ISSUING_CERTIFICATE, &pem.issuing.certificate),
        (ISSUING_KEY, &pem.issuing.private_key),
    ]
}
