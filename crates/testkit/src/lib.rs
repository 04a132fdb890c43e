//! Kubernetes objects and admission reviews for tests: built by small functions with defaults, changed by
//! a word or two.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a fixture that cannot be built is a failed test"
)]

mod review;
mod settings;

pub use review::{Review, create, sample_review, update};
pub use settings::settings;

use certmint_contract::WorkloadKind;
use serde_json::{Value, json};

/// An object as the API server would send it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(Value);

/// A bare pod `payments` in namespace `shop`, with one container `app`.
pub fn pod() -> Object {
    object("v1", "Pod", pod_spec())
}

/// A Deployment `payments` of such pods.
pub fn deployment() -> Object {
    workload("Deployment")
}

/// A workload `payments` of that kind, of such pods.
pub fn workload(kind: &str) -> Object {
    let template = json!({"metadata": {"labels": {"app": "payments"}}, "spec": pod_spec()});
    let selector = json!({"matchLabels": {"app": "payments"}});
    match kind {
        "Job" => object("batch/v1", kind, json!({"template": template})),
        "CronJob" => {
            let job = json!({"spec": {"template": template}});
            object("batch/v1", kind, json!({"schedule": "0 * * * *", "jobTemplate": job}))
        }
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => {
            object("apps/v1", kind, json!({"selector": selector, "template": template}))
        }
        other => panic!("{other} is no workload"),
    }
}

impl Object {
    /// With an annotation of ours, the key without its prefix.
    #[must_use]
    pub fn annotated(self, key: &str, value: &str) -> Self {
        self.with("/metadata/annotations", &format!("certmint.dev/{key}"), value.into())
    }

    /// With an annotation of ours on the pod template, the key without its prefix.
    #[must_use]
    pub fn template_annotated(self, key: &str, value: &str) -> Self {
        let map = self.template_path() + "/metadata/annotations";
        self.with(&map, &format!("certmint.dev/{key}"), value.into())
    }

    /// Without an annotation of ours, the key without its prefix.
    #[must_use]
    pub fn without_annotation(mut self, key: &str) -> Self {
        if let Some(Value::Object(map)) = self.0.pointer_mut("/metadata/annotations") {
            map.remove(&format!("certmint.dev/{key}"));
        }
        self
    }

    /// Controlled by a workload of that kind.
    #[must_use]
    pub fn owned_by(self, kind: &str, name: &str) -> Self {
        let kind: WorkloadKind = kind.parse().expect("the owner is a workload");
        self.controlled_by(kind.api_version(), kind.as_str(), name)
    }

    /// Controlled by an object of that API version and kind.
    #[must_use]
    pub fn controlled_by(self, api_version: &str, kind: &str, name: &str) -> Self {
        let owner =
            json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": "1", "controller": true});
        self.with("/metadata", "ownerReferences", json!([owner]))
    }

    /// With `key` set in the map at that JSON pointer; maps on the way are made.
    #[must_use]
    pub fn with(mut self, map: &str, key: &str, value: Value) -> Self {
        let map = map.split('/').skip(1).fold(&mut self.0, |at, token| match at {
            Value::Array(entries) => {
                let index: usize = token.parse().expect("a list's index is a number");
                entries.get_mut(index).expect("the list is long enough")
            }
            at => &mut at[token],
        });
        map[key] = value;
        self
    }

    /// With the pod's `spec` (a pod's own, or its template's) changed in one field.
    #[must_use]
    pub fn with_spec(self, field: &str, value: Value) -> Self {
        let path = self.template_path() + "/spec";
        self.with(&path, field, value)
    }

    /// The object as JSON.
    pub fn json(&self) -> String {
        self.0.to_string()
    }

    /// The object.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Where the pod template is: nowhere further for a pod.
    pub fn template_path(&self) -> String {
        match self.kind() {
            "Pod" => "",
            "CronJob" => "/spec/jobTemplate/spec/template",
            _ => "/spec/template",
        }
        .into()
    }

    fn kind(&self) -> &str {
        self.0["kind"].as_str().expect("every object has a kind")
    }
}

impl From<Value> for Object {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

fn object(version: &str, kind: &str, spec: Value) -> Object {
    let metadata = json!({"name": "payments", "namespace": "shop", "labels": {"app": "payments"}});
    Object(json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}))
}

fn pod_spec() -> Value {
    json!({"serviceAccountName": "payments", "containers": [{"name": "app", "image": "registry.example.com/app:1"}]})
}
