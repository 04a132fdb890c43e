//! Secrets with their content: read one at a time, when acting, and never through a decoder that logs what
//! it cannot read.

pub(crate) mod content;

use crate::api::{self, ApiError};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, header};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Client, Resource,
    api::{GetParams, ObjectMeta, Patch, Preconditions},
    core::Request,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt};
use zeroize::Zeroizing;

/// A Secret with its content, wiped when dropped.
#[derive(Deserialize)]
pub(crate) struct Secret {
    /// Metadata.
    pub(crate) metadata: ObjectMeta,
    /// `type`, which never changes.
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    /// Whether its content never changes either.
    #[serde(default)]
    pub(crate) immutable: bool,
    #[serde(default)]
    data: BTreeMap<String, Content>,
}

/// The type of a Secret with key and certificate.
pub(crate) const TLS: &str = "kubernetes.io/tls";

/// What a Secret is to hold, beside its metadata.
pub(crate) struct NewContent<'a> {
    /// `kubernetes.io/tls` or `Opaque`.
    pub(crate) kind: &'a str,
    /// Keys and texts.
    pub(crate) data: Vec<(&'static str, &'a str)>,
}

/// Labels, annotations and owners to write.
pub(crate) type Metadata = serde_json::Map<String, Value>;

/// Which Secret, and which version of it, was seen.
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

/// What a write is answered with.
#[derive(Deserialize)]
struct Written {
    metadata: ObjectMeta,
}

/// The content of what was written is known: to have it back costs both sides, and shows a key once more.
const METADATA_ALONE: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// The Secrets of one namespace.
#[derive(Clone)]
pub(crate) struct Secrets {
    client: Client,
    namespace: String,
}

impl Secret {
    /// What a replacement of exactly this must name.
    pub(crate) fn version(&self) -> Version<'_> {
        version_of(&self.metadata)
    }

    /// Whether there is a value, text or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.data.contains_key(key)
    }

    /// A value, if it is there and text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(&self.data.get(key)?.0).ok()
    }
}

/// What a replacement of the Secret with that metadata must name.
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

    /// The Secret, if there is one.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Secret>, ApiError> {
        let request = self.request().get(name, &GetParams::default());
        api::optional(self.send("get", name, request).await)
    }

    /// Creates a Secret; one that exists is left alone ([`api::Fault::Exists`]).
    pub(crate) async fn create(
        &self,
        name: &str,
        mut metadata: Metadata,
        content: &NewContent<'_>,
    ) -> Result<ObjectMeta, ApiError> {
        metadata.insert("name".into(), name.into());
        let body = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata,
            "type": content.kind, "data": content.encoded(),
        });
        let request = self.request().create(&api::post_params(), body.to_string().into_bytes());
        self.write("create", name, request).await
    }

    /// Replaces the content of exactly the Secret that was seen; another or a changed one is refused
    /// ([`api::Fault::Conflict`]).
    ///
    /// A merge patch never creates, is one step for all keys, and leaves the labels of others alone.
    pub(crate) async fn replace(
        &self,
        seen: &Version<'_>,
        mut metadata: Metadata,
        content: &NewContent<'_>,
    ) -> Result<ObjectMeta, ApiError> {
        metadata.insert("uid".into(), seen.uid.into());
        metadata.insert("resourceVersion".into(), seen.resource_version.into());
        // The type cannot be changed, but with it a Secret of another type is not taken for right.
        let patch =
            Patch::Merge(json!({ "metadata": metadata, "type": content.kind, "data": content.encoded() }));
        let request = self.request().patch(seen.name, &api::patch_params(), &patch);
        self.write("update", seen.name, request).await
    }

    /// Deletes exactly the Secret of that uid; one that is gone already is no failure.
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
            request.headers_mut().insert(header::ACCEPT, METADATA_ALONE);
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
            let answer = self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
            let answer = Zeroizing::new(answer);
            serde_json::from_str(&answer).map_err(kube::Error::SerdeError)
        })
        .await
    }
}

impl NewContent<'_> {
    fn encoded(&self) -> Value {
        self.data.iter().map(|(key, text)| ((*key).to_owned(), BASE64_STANDARD.encode(text))).collect()
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The decoder's own error would tell a byte of the content.
        BASE64_STANDARD
            .decode(text.as_bytes())
            .map(|bytes| Self(Zeroizing::new(bytes)))
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}

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
    fn content_is_read_and_never_shown() {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": "a" }, "data": { "tls.key": BASE64_STANDARD.encode("hush") }
        }))
        .unwrap();
        assert_eq!(secret.text("tls.key"), Some("hush"));
        assert_eq!(secret.text("tls.crt"), None);
        assert!(!format!("{secret:?}").contains("hush"));
    }

    #[tokio::test]
    async fn a_write_is_not_answered_with_the_content() {
        let (client, mut server) = api_server();
        let (secrets, content) =
            (Secrets::new(client, "shop"), NewContent { kind: TLS, data: vec![("tls.key", "hush")] });
        let seen = Version { name: "a", uid: "u", resource_version: "1" };
        let answered = async {
            for _ in 0..2 {
                let call = server.any().await;
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
    fn unreadable_content_is_not_quoted() {
        let error = serde_json::from_value::<Secret>(json!({ "metadata": {}, "data": { "k": "hush!" } }));
        assert_eq!(error.unwrap_err().to_string(), "not base64");
    }
}
