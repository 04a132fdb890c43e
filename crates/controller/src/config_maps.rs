//! Reads and writes the ConfigMaps of Certmint's own namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch};
use kube::{Api, Client};
use serde_json::Value;

use crate::api::{self, ApiError, ApiErrorKind};

/// Client for the ConfigMaps of one namespace.
pub(crate) struct ConfigMaps {
    api: Api<ConfigMap>,
    namespace: String,
}

impl ConfigMaps {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.into() }
    }

    /// Returns `namespace/name` of a ConfigMap.
    pub(crate) fn full_name(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }

    /// Reads a ConfigMap. A missing one is an error ([`ApiErrorKind::NotFound`]).
    pub(crate) async fn get(&self, name: &str) -> Result<ConfigMap, ApiError> {
        api::call(self.describe("get", name), self.api.get(name)).await
    }

    /// Creates a ConfigMap. An existing one is not changed, and is not an error.
    pub(crate) async fn create(&self, name: &str, data: BTreeMap<String, String>) -> Result<(), ApiError> {
        let config_map = ConfigMap {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            data: Some(data),
            ..ConfigMap::default()
        };
        let (call, params) = (self.describe("create", name), api::post_params());
        match api::call(call, self.api.create(&params, &config_map)).await {
            Err(error) if !matches!(error.kind(), ApiErrorKind::AlreadyExists) => Err(error),
            _ => Ok(()),
        }
    }

    /// Changes a ConfigMap by a merge patch, which removes a key whose value is null.
    pub(crate) async fn patch(&self, name: &str, patch: Value) -> Result<(), ApiError> {
        let (call, params) = (self.describe("patch", name), api::patch_params());
        api::call(call, self.api.patch(name, &params, &Patch::Merge(patch))).await.map(drop)
    }

    fn describe(&self, verb: &str, name: &str) -> String {
        format!("{verb} ConfigMap {}", self.full_name(name))
    }
}
