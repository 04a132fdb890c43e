//! Workloads that were annotated when no webhook was asked: they lack the label by which everything else finds
//! them, so they are looked for, and told why nothing happens.

use crate::{
    api::{self, ApiError},
    events::{Events, Subject},
    observe::controller,
};
use certmint_contract::{ErrorCode, Namespace, WorkloadKind, keys};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, ObjectMeta, PartialObjectMeta},
};
use std::time::Duration;

/// Looks for them.
pub(crate) struct MissedWorkloads {
    /// The API server.
    pub(crate) client: Client,
    /// Where to look; everywhere when empty.
    pub(crate) namespaces: Vec<Namespace>,
    /// Where it is told.
    pub(crate) events: Events,
}

/// A webhook is rarely away, and a list of everything is no small thing to ask for.
const PACE: Duration = Duration::from_secs(600);
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(30);
/// Objects at one time: what is held in memory.
const PAGE: u32 = 250;

impl MissedWorkloads {
    /// Looks again and again; never returns.
    pub(crate) async fn look(&self) {
        loop {
            let rest = match self.look_once().await {
                Ok(()) => PACE,
                Err(error) => {
                    tracing::warn!(code = %error.code(), %error, "not looked for missed annotations; this is tried again");
                    RETRY
                }
            };
            tokio::time::sleep(rest).await;
        }
    }

    async fn look_once(&self) -> Result<(), ApiError> {
        for kind in WorkloadKind::ALL {
            let resource = api::resource(kind);
            match &*self.namespaces {
                [] => self.look_at(kind, Api::all_with(self.client.clone(), &resource)).await?,
                some => {
                    for namespace in some {
                        let namespace = namespace.as_str();
                        let api = Api::namespaced_with(self.client.clone(), namespace, &resource);
                        self.look_at(kind, api).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn look_at(&self, kind: WorkloadKind, api: Api<DynamicObject>) -> Result<(), ApiError> {
        let mut page =
            ListParams::default().limit(PAGE).labels(&format!("{}!={}", keys::MANAGED, keys::TRUE));
        loop {
            let call = format!("list {kind} metadata");
            let list = api::call(call, api.list_metadata(&page)).await?;
            list.items.iter().filter(|object| is_missed(&object.metadata)).for_each(|object| {
                self.tell(kind, object);
            });
            match list.metadata.continue_ {
                Some(next) if !next.is_empty() => page.continue_token = Some(next),
                _ => return Ok(()),
            }
        }
    }

    fn tell(&self, kind: WorkloadKind, object: &PartialObjectMeta<DynamicObject>) {
        let ObjectMeta { namespace, name, uid, .. } = &object.metadata;
        let subject = Subject {
            api_version: kind.api_version(),
            kind: kind.as_str(),
            namespace: namespace.as_deref().unwrap_or_default().into(),
            name: name.as_deref().unwrap_or_default().into(),
            uid: uid.as_deref().map(Into::into),
        };
        let code = ErrorCode::OptInMissed;
        let (key, name) = (keys::INJECT, &subject.name);
        // A pod cannot be opted in any more.
        let remedy = match kind {
            WorkloadKind::Pod => "delete it and create it again".to_owned(),
            _ => format!("remove the annotation ({key}-) and annotate again"),
        };
        let note = format!(
            "{kind}/{name} has the annotation {key}, but no webhook was asked when it was written, so nothing happens; {remedy}"
        );
        tracing::warn!(%code, %subject, "annotated without the webhook; annotate again");
        self.events.refused(&subject, code, &note);
    }
}

/// It asks for a certificate itself, and is neither opted in nor on its way out.
fn is_missed(metadata: &ObjectMeta) -> bool {
    let is_true = |map: &Option<std::collections::BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).is_some_and(|value| value == keys::TRUE)
    };
    is_true(&metadata.annotations, keys::INJECT)
        && !is_true(&metadata.labels, keys::MANAGED)
        && controller(metadata).is_none()
        && metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::api_server;
    use serde_json::{Value, json};

    fn deployment(name: &str, labels: Value, owner: Value) -> Value {
        json!({ "metadata": {
            "name": name, "namespace": "shop", "uid": name, "labels": labels, "ownerReferences": owner,
            "annotations": { "certmint.dev/inject": "true" },
        }})
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_annotated_without_the_webhook_is_told_so_page_by_page() {
        let (client, mut server) = api_server();
        let (events, mut backlog) = Events::new("controller-0");
        let missed = MissedWorkloads { client, namespaces: Vec::new(), events };
        let owner = json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "uid": "a", "controller": true }]);
        let first = [
            deployment("missed", json!({}), json!([])),
            deployment("managed", json!({ "certmint.dev/managed": "true" }), json!([])),
            deployment("owned", json!({}), owner),
        ];
        let api = Api::all_with(missed.client.clone(), &api::resource(WorkloadKind::Deployment));
        let (looked, ()) = tokio::join!(missed.look_at(WorkloadKind::Deployment, api), async {
            let list = |items: &[Value], next| json!({ "metadata": { "continue": next }, "items": items });
            server.expect("GET", "/apis/apps/v1/deployments").await.ok(list(&first, "more"));
            let second = [deployment("later", json!({}), json!([]))];
            server.expect("GET", "/apis/apps/v1/deployments").await.ok(list(&second, ""));
        });
        looked.unwrap();
        let told: Vec<_> = std::iter::from_fn(|| backlog.try_recv().ok()).collect();
        let names: Vec<_> = told.iter().map(|event| &*event.subject.name).collect();
        assert_eq!(names, ["missed", "later"]);
        assert_eq!(told[0].reason, "OptInMissed");
    }
}
