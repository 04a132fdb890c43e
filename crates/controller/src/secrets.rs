//! Reads and writes Secrets with their content, for the reconciler, the issuance API, the CA and the webhook's
//! certificate.
//!
//! The controller reads one Secret at a time, when it needs the content. It does not use kube's typed client, which
//! logs a response that it cannot decode.

pub(crate) mod content;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, header};
use k8s_openapi::api::core::v1 as core;
use kube::api::{GetParams, ObjectMeta, Patch, Preconditions};
use kube::core::Request;
use kube::{Client, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::api::{self, ApiError};

/// A Secret with its content, which is overwritten in memory when it is dropped.
#[derive(Deserialize)]
pub(crate) struct Secret {
    /// `metadata`
    pub(crate) metadata: ObjectMeta,
    /// `type`, which can only be set when the Secret is created.
    #[serde(default, rename = "type")]
    pub(crate) secret_type: String,
    /// `immutable`. The content of an immutable Secret cannot be changed.
    #[serde(default)]
    pub(crate) immutable: bool,
    #[serde(default)]
    data: BTreeMap<String, Content>,
}

/// Type of a Secret with a key and a certificate.
pub(crate) const TLS_SECRET_TYPE: &str = "kubernetes.io/tls";

/// Content of a Secret that is to be written.
pub(crate) struct NewContent<'a> {
    /// `type`: `kubernetes.io/tls` or `Opaque`.
    pub(crate) secret_type: &'a str,
    /// Keys and values of `data`, not encoded.
    pub(crate) data: Vec<(&'static str, Cow<'a, str>)>,
}

/// Metadata to write: labels, annotations and owner references.
pub(crate) type Metadata = serde_json::Map<String, Value>;

/// Version of a Secret. A write replaces the Secret only if it still has this version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version<'a> {
    /// `metadata.name`
    pub(crate) name: &'a str,
    /// `metadata.uid`
    pub(crate) uid: &'a str,
    /// `metadata.resourceVersion`
    pub(crate) resource_version: &'a str,
}

struct Content(Zeroizing<Vec<u8>>);

/// Response to a write.
#[derive(Deserialize)]
struct Written {
    metadata: ObjectMeta,
}

/// `Accept` header of a write. The caller knows the content, so the response need not contain it. That saves work, and
/// the private key is not sent a second time.
const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// Client for the Secrets of one namespace.
#[derive(Clone)]
pub(crate) struct Secrets {
    client: Client,
    namespace: String,
}

impl Secret {
    /// Returns the version of the Secret.
    pub(crate) fn version(&self) -> Version<'_> {
        version_of(&self.metadata)
    }

    /// Returns whether `data` has the key. Its value need not be a text.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.data.contains_key(key)
    }

    /// Returns a value of `data`, if it exists and is a text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(&self.data.get(key)?.0).ok()
    }
}

/// Returns the version of the Secret with this metadata.
pub(crate) fn version_of(metadata: &ObjectMeta) -> Version<'_> {
    let ObjectMeta { name, uid, resource_version, .. } = metadata;
    Version {
        name: name.as_deref().unwrap_or_default(),
        uid: uid.as_deref().unwrap_or_default(),
        resource_version: resource_version.as_deref().unwrap_or_default(),
    }
}

impl Secrets {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.into() }
    }

    /// Reads a Secret, if it exists.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Secret>, ApiError> {
        let request = self.request().get(name, &GetParams::default());
        api::optional(self.send("get", name, request).await)
    }

    /// Creates a Secret. An existing Secret is not changed ([`api::ApiErrorKind::AlreadyExists`]).
    pub(crate) async fn create(
        &self,
        name: &str,
        mut metadata: Metadata,
        content: &NewContent<'_>,
    ) -> Result<ObjectMeta, ApiError> {
        metadata.insert("name".into(), name.into());
        let body = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata,
            "type": content.secret_type, "data": content.encoded(),
        });
        let request = self.request().create(&api::post_params(), body.to_string().into_bytes());
        self.write("create", name, request).await
    }

    /// Replaces the content of a Secret, if it still has the version `seen` ([`api::ApiErrorKind::Conflict`]
    /// otherwise).
    ///
    /// The call is a merge patch: it never creates a Secret, changes all keys in one step, and keeps the labels that
    /// other programs set.
    pub(crate) async fn replace(
        &self,
        seen: &Version<'_>,
        mut metadata: Metadata,
        content: &NewContent<'_>,
    ) -> Result<ObjectMeta, ApiError> {
        metadata.insert("uid".into(), seen.uid.into());
        metadata.insert("resourceVersion".into(), seen.resource_version.into());
        // The type of a Secret cannot be changed. With the type in the patch, the API server rejects the patch for a
        // Secret of another type.
        let patch = Patch::Merge(
            json!({ "metadata": metadata, "type": content.secret_type, "data": content.encoded() }),
        );
        let request = self.request().patch(seen.name, &api::patch_params(), &patch);
        self.write("update", seen.name, request).await
    }

    /// Deletes the Secret with this uid. A Secret that does not exist is not an error.
    pub(crate) async fn delete(&self, name: &str, uid: &str) -> Result<(), ApiError> {
        let preconditions = Preconditions { uid: Some(uid.into()), resource_version: None };
        let params = kube::api::DeleteParams { preconditions: Some(preconditions), ..Default::default() };
        let request = self.request().delete(name, &params);
        api::optional(self.send::<serde::de::IgnoredAny>("delete", name, request).await).map(drop)
    }

    fn request(&self) -> Request {
        Request::new(core::Secret::url_path(&(), Some(&self.namespace)))
    }

    async fn write(
        &self,
        verb: &str,
        name: &str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<ObjectMeta, ApiError> {
        let request = request.map(|mut request| {
            request.headers_mut().insert(header::ACCEPT, METADATA_ONLY);
            request
        });
        self.send::<Written>(verb, name, request).await.map(|written| written.metadata)
    }

    async fn send<T: for<'de> Deserialize<'de>>(
        &self,
        verb: &str,
        name: &str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, ApiError> {
        let call = format!("{verb} Secret {}/{name}", self.namespace);
        api::call(call, async {
            let response = self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
            let response = Zeroizing::new(response);
            serde_json::from_str(&response).map_err(kube::Error::SerdeError)
        })
        .await
    }
}

impl NewContent<'_> {
    fn encoded(&self) -> Value {
        self.data
            .iter()
            .map(|(key, text)| ((*key).to_owned(), BASE64_STANDARD.encode(text.as_bytes())))
            .collect()
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The decoder's own error would contain a byte of the content.
        BASE64_STANDARD
            .decode(text.as_bytes())
            .map(|bytes| Self(Zeroizing::new(bytes)))
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}

/// Prints the name only, never the content.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.metadata.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::api_server;

    #[test]
    fn debug_output_does_not_contain_the_content() {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": "a" }, "data": { "tls.key": BASE64_STANDARD.encode("hush") }
        }))
        .unwrap();
        assert_eq!(secret.text("tls.key"), Some("hush"));
        assert_eq!(secret.text("tls.crt"), None);
        assert!(!format!("{secret:?}").contains("hush"));
    }

    #[tokio::test]
    async fn the_response_to_a_write_has_no_content() {
        let (client, mut server) = api_server();
        let (secrets, content) = (
            Secrets::new(client, "shop"),
            NewContent { secret_type: TLS_SECRET_TYPE, data: vec![("tls.key", "hush".into())] },
        );
        let seen = Version { name: "a", uid: "u", resource_version: "1" };
        let answered = async {
            for _ in 0..2 {
                let call = server.next_call().await;
                assert!(
                    call.accepts.contains("as=PartialObjectMetadata"),
                    "{} accepts {}",
                    call.method,
                    call.accepts
                );
                call.ok(json!({ "kind": "PartialObjectMetadata", "metadata": { "name": "a", "resourceVersion": "2" } }));
            }
        };
        let written = async {
            let created = secrets.create("a", Metadata::new(), &content).await.unwrap();
            let replaced = secrets.replace(&seen, Metadata::new(), &content).await.unwrap();
            [created, replaced].map(|metadata| metadata.resource_version)
        };
        let (versions, ()) = tokio::join!(written, answered);
        assert_eq!(versions, [Some("2".to_owned()), Some("2".to_owned())]);
    }

    #[test]
    fn an_error_does_not_quote_the_content() {
        let error = serde_json::from_value::<Secret>(json!({ "metadata": {}, "data": { "k": "hush!" } }));
        assert_eq!(error.unwrap_err().to_string(), "not base64");
    }
}
