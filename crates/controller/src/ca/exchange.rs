//! The two public ConfigMaps through which the controller and the operator of an offline root exchange a request and its
//! certificate. Both contain certificates only, so a user needs no permission on the CA's Secret.

use std::collections::BTreeMap;

use kube::Client;
use serde_json::json;

use crate::api::{self, ApiError};
use crate::config_maps::ConfigMaps;
use crate::events::InvolvedObject;

/// Names of the ConfigMaps.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeNames {
    /// The controller's own namespace.
    pub(crate) namespace: String,
    /// ConfigMap with the request, which the controller writes.
    pub(crate) request: String,
    /// ConfigMap with the certificates, which an operator writes.
    pub(crate) import: String,
}

/// Reads and writes the ConfigMaps.
pub(crate) struct Exchange {
    names: ExchangeNames,
    config_maps: ConfigMaps,
}

/// Answer to the operator, in the ConfigMap with the request.
#[derive(Debug)]
pub(super) struct Answer {
    /// One word, for `kubectl wait`.
    pub(super) status: &'static str,
    /// Cause and next step.
    pub(super) message: String,
}

/// Content of the ConfigMap with the certificates, not checked yet.
pub(super) struct ImportFiles {
    /// Issuing CA and intermediate CAs, as PEM.
    pub(super) tls: String,
    /// Root, as PEM.
    pub(super) ca: String,
    /// The ConfigMap, for Events.
    pub(super) object: InvolvedObject,
}

// Keys in the ConfigMaps.
const REQUEST: &str = "issuing.csr";
const STATUS: &str = "status";
const MESSAGE: &str = "message";
const INSTRUCTIONS: &str = "instructions";
const CERTIFICATE: &str = "tls.crt";
const ROOT: &str = "ca.crt";

impl Exchange {
    pub(crate) fn new(client: Client, names: ExchangeNames) -> Self {
        let config_maps = ConfigMaps::new(client, &names.namespace);
        Self { names, config_maps }
    }

    /// Returns `namespace/name` of the ConfigMap with the request.
    pub(super) fn request_name(&self) -> String {
        self.config_maps.full_name(&self.names.request)
    }

    /// Returns `namespace/name` of the ConfigMap with the certificates.
    pub(super) fn import_name(&self) -> String {
        self.config_maps.full_name(&self.names.import)
    }

    /// Reads the certificates, if the ConfigMap exists. A missing key becomes an empty text, which is not valid PEM.
    pub(super) async fn read_import(&self) -> Result<Option<ImportFiles>, ApiError> {
        let found = api::optional(self.config_maps.get(&self.names.import).await)?;
        Ok(found.map(|found| {
            let mut data = found.data.unwrap_or_default();
            let object = InvolvedObject {
                api_version: "v1",
                kind: "ConfigMap",
                namespace: self.names.namespace.as_str().into(),
                name: self.names.import.as_str().into(),
                uid: found.metadata.uid.map(Into::into),
            };
            ImportFiles {
                tls: data.remove(CERTIFICATE).unwrap_or_default(),
                ca: data.remove(ROOT).unwrap_or_default(),
                object,
            }
        }))
    }

    /// Writes the request and the answer, unless the ConfigMap has them already. Without a request, the ConfigMap contains
    /// none, so that an operator does not sign an old one.
    pub(super) async fn publish(&self, request: Option<&str>, answer: Answer) -> Result<(), ApiError> {
        let wanted = [
            (REQUEST, request.map(str::to_owned)),
            (STATUS, Some(answer.status.to_owned())),
            (MESSAGE, Some(answer.message)),
            (INSTRUCTIONS, Some(self.instructions())),
        ];
        let name = &self.names.request;
        let Some(found) = api::optional(self.config_maps.get(name).await)? else {
            let present = wanted.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?)));
            return self.config_maps.create(name, present.collect()).await;
        };
        let data = found.data.unwrap_or_default();
        if wanted.iter().all(|(key, text)| data.get(*key) == text.as_ref()) {
            return Ok(());
        }
        let wanted: BTreeMap<_, _> = wanted.into_iter().collect();
        self.config_maps.patch(name, json!({ "data": wanted })).await
    }

    fn instructions(&self) -> String {
        let ExchangeNames { namespace, request, import } = &self.names;
        format!(
            r"1. Save the request:
   kubectl get configmap --namespace={namespace} {request} --output=jsonpath='{{.data.issuing\.csr}}' >issuing.csr
2. Let the operator of your root sign it as a subordinate CA, with these extensions:
   basicConstraints critical, CA:TRUE, pathlen:0; keyUsage critical, keyCertSign, cRLSign; subjectKeyIdentifier;
   authorityKeyIdentifier; nameConstraints as in the request, or none; no extendedKeyUsage.
3. Import the signed certificate, followed by your intermediate CAs if there are any, and the root:
   kubectl create configmap --namespace={namespace} {import} --from-file=tls.crt=issuing.pem --from-file=ca.crt=root.pem
   If the ConfigMap exists already, delete it before.
4. Read the answer: the key status is accepted or rejected, and the key message has the reason. It is also an Event:
   kubectl describe configmap --namespace={namespace} {import}
"
        )
    }
}
