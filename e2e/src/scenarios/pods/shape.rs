//! One row of the table: a pod of some shape, and what is expected of it.

use serde_json::{Map, Value, json};

/// The label by which all pods of the table are found.
pub(super) const APP: &str = "any-pod";

/// A pod and what is expected of it.
pub(super) struct Shape {
    /// The case, and the pod's name.
    pub(super) name: &'static str,
    annotations: Map<String, Value>,
    spec: Value,
    /// Containers that can read the key as their own user, and how: `uid mode owner:group`.
    pub(super) readers: Vec<(&'static str, &'static str)>,
    /// Containers that have no mount of the files.
    pub(super) without: Vec<&'static str>,
    /// The init containers, in their order.
    pub(super) order: Vec<&'static str>,
    /// What kubectl prints, each after `Warning: `.
    pub(super) warnings: Vec<&'static str>,
}

/// A pod with one container `app`, opted in; ours is the only init container.
pub(super) fn shape(name: &'static str) -> Shape {
    let annotations = [("certmint.dev/inject".to_owned(), json!("true"))].into_iter().collect();
    let spec = json!({ "terminationGracePeriodSeconds": 1, "containers": [container("app", json!({}))] });
    let (readers, without, warnings) = (Vec::new(), Vec::new(), Vec::new());
    Shape { name, annotations, spec, readers, without, order: vec!["certmint"], warnings }
}

/// A container that stays, with more fields; the image is filled in by [`Shape::manifest`].
pub(super) fn container(name: &str, mut more: Value) -> Value {
    more["name"] = name.into();
    more
}

/// A container that runs as these say.
pub(super) fn running(name: &str, security: Value) -> Value {
    container(name, json!({ "securityContext": security }))
}

/// A container that ends well when this shell command does.
pub(super) fn checking(name: &str, command: &str) -> Value {
    container(name, json!({ "command": ["sh", "-c", command] }))
}

impl Shape {
    /// With an annotation of ours, the key without its prefix.
    pub(super) fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(format!("certmint.dev/{key}"), value.into());
        self
    }

    /// With an annotation of somebody else's.
    pub(super) fn noted(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// With a field of the pod's spec.
    pub(super) fn spec(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    /// With these containers.
    pub(super) fn containers(self, containers: &[Value]) -> Self {
        self.spec("containers", containers.into())
    }

    /// Expects that a container reads the key, as `uid mode owner:group`.
    pub(super) fn read_by(mut self, container: &'static str, how: &'static str) -> Self {
        self.readers.push((container, how));
        self
    }

    /// Expects that a container has no mount of the files.
    pub(super) fn not_in(mut self, container: &'static str) -> Self {
        self.without.push(container);
        self
    }

    /// Expects these init containers in this order.
    pub(super) fn order(mut self, names: &[&'static str]) -> Self {
        self.order = names.to_vec();
        self
    }

    /// Expects this warning.
    pub(super) fn warned(mut self, warning: &'static str) -> Self {
        self.warnings.push(warning);
        self
    }

    /// Where its containers find the files.
    pub(super) fn place(&self) -> &str {
        self.annotations
            .get("certmint.dev/mount-path")
            .and_then(Value::as_str)
            .unwrap_or("/var/run/secrets/certmint.dev")
    }

    /// The pod as a user writes it.
    pub(super) fn manifest(&self, image: &str) -> Value {
        let mut spec = self.spec.clone();
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                if container["image"].is_null() {
                    container["image"] = image.into();
                }
            }
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": self.name, "labels": { "app": APP }, "annotations": self.annotations },
            "spec": spec,
        })
    }
}
