//! Kubernetes objects and admission reviews for tests. Small functions with defaults build them, and methods change them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a fixture that cannot be built is a failed test"
)]

mod review;
mod settings;

use certmint_contract::WorkloadKind;
use serde_json::{Value, json};

pub use self::review::{Review, create, sample_review, update};
pub use self::settings::settings;

/// Object as the API server would send it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(Value);

/// Returns a standalone pod `payments` in namespace `shop`, with one container `app`.
#[must_use]
pub fn pod() -> Object {
    object("v1", "Pod", pod_spec())
}

/// Returns a Deployment `payments` whose pods are like [`pod`].
#[must_use]
pub fn deployment() -> Object {
    workload("Deployment")
}

/// Returns a workload `payments` of that kind whose pods are like [`pod`].
#[must_use]
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
        other => panic!("{other} is not a kind of workload"),
    }
}

impl Object {
    /// Adds an annotation of Certmint. `key` is the key without the prefix.
    #[must_use]
    pub fn annotated(self, key: &str, value: &str) -> Self {
        self.with("/metadata/annotations", &format!("certmint.dev/{key}"), value.into())
    }

    /// Adds an annotation of Certmint to the pod template. `key` is the key without the prefix.
    #[must_use]
    pub fn template_annotated(self, key: &str, value: &str) -> Self {
        let map = self.template_path() + "/metadata/annotations";
        self.with(&map, &format!("certmint.dev/{key}"), value.into())
    }

    /// Removes an annotation of Certmint. `key` is the key without the prefix.
    #[must_use]
    pub fn without_annotation(mut self, key: &str) -> Self {
        if let Some(Value::Object(map)) = self.0.pointer_mut("/metadata/annotations") {
            map.remove(&format!("certmint.dev/{key}"));
        }
        self
    }

    /// Adds a workload of that kind as the controlling owner.
    #[must_use]
    pub fn owned_by(self, kind: &str, name: &str) -> Self {
        let kind: WorkloadKind = kind.parse().expect("the owner is a workload");
        self.controlled_by(kind.api_version(), kind.as_str(), name)
    }

    /// Adds an object of that API version and kind as the controlling owner.
    #[must_use]
    pub fn controlled_by(self, api_version: &str, kind: &str, name: &str) -> Self {
        let owner =
            json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": "1", "controller": true});
        self.with("/metadata", "ownerReferences", json!([owner]))
    }

    /// Sets `key` in the map at that JSON pointer. Creates the maps on the way.
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

    /// Sets a field in the `spec` of the pod or of the pod template.
    #[must_use]
    pub fn with_spec(self, field: &str, value: Value) -> Self {
        let path = self.template_path() + "/spec";
        self.with(&path, field, value)
    }

    /// Returns the object as JSON text.
    #[must_use]
    pub fn json(&self) -> String {
        self.0.to_string()
    }

    /// Returns the object as a JSON value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Returns the JSON pointer of the pod template. It is empty for a pod.
    #[must_use]
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
