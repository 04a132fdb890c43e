//! What an Event is about.

use crate::{api, observe::WorkloadKey};
use certmint_contract::{Namespace, WorkloadKind, WorkloadRef};
use certmint_planner::Workload;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ObjectReference};
use kube::{Api, Client};
use std::sync::Arc;

/// A name has 253 characters at most.
const LONGEST_PREFIX: usize = 240;

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    /// As in `apps/v1`.
    pub(crate) api_version: &'static str,
    /// As in `Deployment`.
    pub(crate) kind: &'static str,
    /// Where it is.
    pub(crate) namespace: Box<str>,
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its uid, where it is known.
    pub(crate) uid: Option<Box<str>>,
}

impl Subject {
    /// The subject that a workload is.
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

    /// The subject that a workload is of which only that is known.
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

    /// The subject that a pod is.
    pub(crate) fn pod(namespace: &Namespace, name: &str, uid: &str) -> Self {
        let workload = WorkloadRef::new(WorkloadKind::Pod, name);
        Self::of_key(&WorkloadKey { namespace: namespace.clone(), workload }, uid)
    }

    /// The subject that a Secret is. `kubectl events --for secret/NAME` shows its Events, `kubectl describe` does
    /// not.
    pub(crate) fn secret(namespace: &Namespace, name: &str, uid: &str) -> Self {
        Self {
            api_version: "v1",
            kind: "Secret",
            namespace: namespace.as_str().into(),
            name: name.into(),
            uid: Some(uid.into()),
        }
    }

    /// A Deployment with its uid, without which `kubectl describe` shows none of its Events; as it is when the
    /// API server does not tell.
    pub(crate) async fn identified(self, client: &Client) -> Self {
        let deployments = Api::<Deployment>::namespaced(client.clone(), &self.namespace);
        let call = format!("get {self}");
        match api::call(call, deployments.get_metadata(&self.name)).await {
            Ok(found) => Self { uid: found.metadata.uid.map(Into::into), ..self },
            Err(error) => {
                tracing::warn!(code = %error.code(), %error, "kubectl describe deployment will not show Events of the CA; kubectl get events does");
                self
            }
        }
    }

    /// What the names of its Events begin with; the API server adds five characters.
    pub(super) fn event_prefix(&self) -> String {
        let head: String = self.name.chars().take(LONGEST_PREFIX).collect();
        format!("{}-", head.trim_end_matches(['-', '.']))
    }

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

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

#[cfg(test)]
impl Subject {
    /// A Deployment in namespace `shop`.
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
    use super::*;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn our_own_deployment_is_told_by_its_uid() {
        const PATH: &str = "/apis/apps/v1/namespaces/shop/deployments/payments";
        let (client, mut server) = crate::testing::api_server();
        let (found, ()) = tokio::join!(Subject::deployment("payments").identified(&client), async {
            server.expect("GET", PATH).await.ok(json!({ "metadata": { "name": "payments", "uid": "d-1" } }));
        });
        assert_eq!(found.uid.as_deref(), Some("d-1"));
        let (missed, ()) = tokio::join!(Subject::deployment("payments").identified(&client), async {
            server.expect("GET", PATH).await.fail(404, "NotFound");
        });
        assert_eq!(missed, Subject::deployment("payments"));
    }
}
