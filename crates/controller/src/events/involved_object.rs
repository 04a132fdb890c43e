//! Describes the object that an Event is about, for the parts of the controller that report in Events.

use std::sync::Arc;

use certmint_contract::{Namespace, WorkloadKind, WorkloadRef};
use certmint_planner::Workload;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Api, Client};

use crate::api;
use crate::observe::WorkloadKey;

/// Maximum length of the prefix of an Event's name, in characters. A name has at most 253 characters, and the prefix is
/// followed by a hyphen and five random characters.
const MAX_NAME_PREFIX: usize = 240;

/// The object that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InvolvedObject {
    /// `apiVersion`, as in `apps/v1`.
    pub(crate) api_version: &'static str,
    /// `kind`, as in `Deployment`.
    pub(crate) kind: &'static str,
    /// `metadata.namespace`
    pub(crate) namespace: Box<str>,
    /// `metadata.name`
    pub(crate) name: Arc<str>,
    /// `metadata.uid`, if it is known.
    pub(crate) uid: Option<Box<str>>,
}

impl InvolvedObject {
    /// Returns a workload as the object of an Event.
    pub(crate) fn of(workload: &Workload) -> Self {
        let (kind, namespace): (_, &Namespace) = (workload.reference.kind, &workload.namespace);
        Self {
            api_version: kind.api_version(),
            kind: kind.as_str(),
            namespace: namespace.as_str().into(),
            name: workload.reference.name.clone(),
            uid: Some(workload.uid.clone()),
        }
    }

    /// Returns the workload with this key and uid as the object of an Event.
    pub(crate) fn of_key(key: &WorkloadKey, uid: &str) -> Self {
        let (kind, namespace) = (key.workload.kind, &key.namespace);
        Self {
            api_version: kind.api_version(),
            kind: kind.as_str(),
            namespace: namespace.as_str().into(),
            name: key.workload.name.clone(),
            uid: Some(uid.into()),
        }
    }

    /// Returns a pod as the object of an Event.
    pub(crate) fn pod(namespace: &Namespace, name: &str, uid: &str) -> Self {
        let workload = WorkloadRef::new(WorkloadKind::Pod, name);
        Self::of_key(&WorkloadKey { namespace: namespace.clone(), workload }, uid)
    }

    /// Returns a Secret as the object of an Event. `kubectl events --for secret/NAME` shows the Events on a Secret,
    /// `kubectl describe` does not.
    pub(crate) fn secret(namespace: &Namespace, name: &str, uid: &str) -> Self {
        Self {
            api_version: "v1",
            kind: "Secret",
            namespace: namespace.as_str().into(),
            name: name.into(),
            uid: Some(uid.into()),
        }
    }

    /// Adds the uid of a Deployment. Without the uid, `kubectl describe` does not show the Events on the Deployment. If
    /// the Deployment cannot be read, returns the object unchanged.
    pub(crate) async fn with_uid(self, client: &Client) -> Self {
        let deployments = Api::<Deployment>::namespaced(client.clone(), &self.namespace);
        let call = format!("get {self}");
        match api::call(call, deployments.get_metadata(&self.name)).await {
            Ok(found) => Self { uid: found.metadata.uid.map(Into::into), ..self },
            Err(error) => {
                tracing::warn!(code = %error.code(), %error, "kubectl describe deployment will not show Events about the CA; kubectl get events does");
                self
            }
        }
    }

    /// Returns the prefix for the names of the Events on this object. The API server adds random characters.
    pub(super) fn event_name_prefix(&self) -> String {
        let head: String = self.name.chars().take(MAX_NAME_PREFIX).collect();
        format!("{}-", head.trim_end_matches(['-', '.']))
    }

    /// Returns the reference for the field `regarding` of an Event.
    pub(super) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.api_version.into()),
            kind: Some(self.kind.into()),
            namespace: Some(self.namespace.to_string()),
            name: Some(self.name.to_string()),
            uid: self.uid.as_deref().map(Into::into),
            ..ObjectReference::default()
        }
    }
}

impl std::fmt::Display for InvolvedObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

#[cfg(test)]
impl InvolvedObject {
    /// Returns a Deployment in the namespace `shop`.
    pub(super) fn deployment(name: &str) -> Self {
        Self {
            api_version: "apps/v1",
            kind: "Deployment",
            namespace: "shop".into(),
            name: name.into(),
            uid: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn adds_the_uid_of_the_deployment() {
        const PATH: &str = "/apis/apps/v1/namespaces/shop/deployments/payments";
        let (client, mut server) = crate::testing::api_server();
        let (found, ()) = tokio::join!(InvolvedObject::deployment("payments").with_uid(&client), async {
            server.expect("GET", PATH).await.ok(json!({ "metadata": { "name": "payments", "uid": "d-1" } }));
        });
        assert_eq!(found.uid.as_deref(), Some("d-1"));
        let (missing, ()) = tokio::join!(InvolvedObject::deployment("payments").with_uid(&client), async {
            server.expect("GET", PATH).await.fail(404, "NotFound");
        });
        assert_eq!(missing, InvolvedObject::deployment("payments"));
    }
}
