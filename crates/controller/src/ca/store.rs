//! The CA's Secret and the public ConfigMap that marks which root is trusted.

use super::CaFault;
use crate::{
    api::{self, ApiError, Fault},
    secrets::{Metadata, NewContent, Secret, Secrets, version_of},
};
use certmint_certificates::{Authority, AuthorityPem, CaPem};
use certmint_contract::pod_layout::TRUST_BUNDLE_FILE;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::ObjectMeta};
use zeroize::Zeroizing;

/// Where the CA is kept.
#[derive(Clone, Debug)]
pub(crate) struct CaNames {
    /// The controller's own namespace.
    pub(crate) namespace: String,
    /// The Secret with the keys.
    pub(crate) secret: String,
    /// The ConfigMap with the roots.
    pub(crate) bundle: String,
}

/// Reads and writes both.
pub(crate) struct Store {
    names: CaNames,
    secrets: Secrets,
    bundles: Api<ConfigMap>,
}

/// The CA as it stands in its Secret.
pub(super) struct Stored {
    /// What a replacement must name.
    pub(super) metadata: ObjectMeta,
    kind: String,
    /// Not checked yet.
    pub(super) pem: AuthorityPem,
    /// The issuing CA that was replaced last; empty when there was none.
    pub(super) previous: CaPem,
}

/// The keys of the Secret.
const ROOT_CERTIFICATE: &str = "root.crt";
const ROOT_KEY: &str = "root.key";
const ISSUING_CERTIFICATE: &str = "issuing.crt";
const ISSUING_KEY: &str = "issuing.key";
const PREVIOUS_CERTIFICATE: &str = "previous-issuing.crt";
const PREVIOUS_KEY: &str = "previous-issuing.key";

impl Store {
    pub(crate) fn new(client: Client, names: CaNames) -> Self {
        let secrets = Secrets::new(client.clone(), &names.namespace);
        let bundles = Api::namespaced(client, &names.namespace);
        Self { names, secrets, bundles }
    }

    /// What only a person can resolve.
    pub(super) fn refused(&self, why: String) -> CaFault {
        let CaNames { namespace, secret, bundle } = &self.names;
        CaFault::Refused {
            secret: format!("{namespace}/{secret}"),
            bundle: format!("{namespace}/{bundle}"),
            why,
        }
    }

    /// The Secret, if it is there. A missing key is an empty text, which is no PEM.
    pub(super) async fn read(&self) -> Result<Option<Stored>, ApiError> {
        let found = self.secrets.get(&self.names.secret).await?;
        Ok(found.map(|secret| Stored {
            pem: AuthorityPem {
                root: pair(&secret, ROOT_CERTIFICATE, ROOT_KEY),
                issuing: pair(&secret, ISSUING_CERTIFICATE, ISSUING_KEY),
            },
            previous: pair(&secret, PREVIOUS_CERTIFICATE, PREVIOUS_KEY),
            metadata: secret.metadata,
            kind: secret.kind,
        }))
    }

    /// Writes a new CA, unless there is one ([`Fault::Exists`]).
    pub(super) async fn create(&self, authority: &Authority) -> Result<(), CaFault> {
        let pem = authority.to_pem()?;
        let content = NewContent { kind: "Opaque", data: data(&pem) };
        self.secrets.create(&self.names.secret, Metadata::new(), &content).await?;
        Ok(())
    }

    /// Replaces the CA that was read. Its issuing CA is kept as the previous one if it `was_usable`; else the previous
    /// one stays as it is.
    pub(super) async fn replace(
        &self,
        stored: &Stored,
        was_usable: bool,
        authority: &Authority,
    ) -> Result<(), CaFault> {
        let pem = authority.to_pem()?;
        let mut data = data(&pem);
        if was_usable {
            let CaPem { certificate, private_key } = &stored.pem.issuing;
            data.extend([(PREVIOUS_CERTIFICATE, &**certificate), (PREVIOUS_KEY, private_key)]);
        }
        // Whoever restored it may have given it another type.
        let content = NewContent { kind: &stored.kind, data };
        self.secrets.replace(&version_of(&stored.metadata), Metadata::new(), &content).await?;
        Ok(())
    }

    /// The roots (PEM) that were published, if any were.
    pub(super) async fn published(&self) -> Result<Option<String>, ApiError> {
        let call = format!("get ConfigMap {}", self.bundle_name());
        let found = api::optional(api::call(call, self.bundles.get(&self.names.bundle)).await)?;
        Ok(found.map(|bundle| bundle.data.unwrap_or_default().remove(TRUST_BUNDLE_FILE).unwrap_or_default()))
    }

    /// Publishes the roots. What is published already stays: it was read before, or is checked next time.
    pub(super) async fn publish(&self, roots: &str) -> Result<(), ApiError> {
        let bundle = ConfigMap {
            metadata: ObjectMeta { name: Some(self.names.bundle.clone()), ..ObjectMeta::default() },
            data: Some([(TRUST_BUNDLE_FILE.to_owned(), roots.to_owned())].into()),
            ..ConfigMap::default()
        };
        let call = format!("create ConfigMap {}", self.bundle_name());
        match api::call(call, self.bundles.create(&api::post_params(), &bundle)).await {
            Err(error) if !matches!(error.fault(), Fault::Exists) => Err(error),
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
