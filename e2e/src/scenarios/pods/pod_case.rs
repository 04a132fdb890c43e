//! Pods and the expected result of their creation, for the tables in [`super::pod_cases`] and
//! [`super::rejections_and_warnings`].

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::KubectlResult;

/// Label `app` of all pods in the tables.
pub(super) const APP: &str = "any-pod";

/// A pod, and the expected result of its creation.
pub(super) struct PodCase {
    /// Name of the case and of the pod.
    pub(super) name: &'static str,
    annotations: Map<String, Value>,
    spec: Value,
    /// Containers that can read the key.
    pub(super) readers: Vec<KeyReader>,
    /// Containers without a mount of the certificate files.
    pub(super) without_files: Vec<&'static str>,
    /// The init containers in their order.
    pub(super) init_containers: Vec<&'static str>,
    /// Warnings that kubectl prints.
    warnings: Vec<&'static str>,
}

/// A container that can read the key.
pub(super) struct KeyReader {
    pub(super) container: &'static str,
    /// User of the container, and mode, owner and group of the file, as `uid mode owner:group`.
    pub(super) access: &'static str,
}

/// Returns an opted-in pod with one container, `app`. Its only init container is the certmint-fetch container.
pub(super) fn pod_case(name: &'static str) -> PodCase {
    let annotations = [("certmint.dev/inject".to_owned(), json!("true"))].into_iter().collect();
    let spec = json!({ "terminationGracePeriodSeconds": 1, "containers": [container("app", json!({}))] });
    PodCase {
        name,
        annotations,
        spec,
        readers: Vec::new(),
        without_files: Vec::new(),
        init_containers: vec!["certmint"],
        warnings: Vec::new(),
    }
}

/// Returns a container with further fields. [`PodCase::manifest`] sets its image.
pub(super) fn container(name: &str, mut fields: Value) -> Value {
    fields["name"] = name.into();
    fields
}

/// Returns a container with this security context.
pub(super) fn with_security_context(name: &str, security: Value) -> Value {
    container(name, json!({ "securityContext": security }))
}

/// Returns a container that succeeds if this shell command does.
pub(super) fn with_command(name: &str, command: &str) -> Value {
    container(name, json!({ "command": ["sh", "-c", command] }))
}

impl PodCase {
    /// Adds an annotation of Certmint. The key has no prefix.
    pub(super) fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(format!("certmint.dev/{key}"), value.into());
        self
    }

    /// Adds an annotation with this full key.
    pub(super) fn foreign_annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a field of the pod's spec.
    pub(super) fn spec(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    /// Sets the containers.
    pub(super) fn containers(self, containers: &[Value]) -> Self {
        self.spec("containers", containers.into())
    }

    /// Expects that a container can read the key, with this [`KeyReader::access`].
    pub(super) fn read_by(mut self, container: &'static str, access: &'static str) -> Self {
        self.readers.push(KeyReader { container, access });
        self
    }

    /// Expects that a container has no mount of the certificate files.
    pub(super) fn not_in(mut self, container: &'static str) -> Self {
        self.without_files.push(container);
        self
    }

    /// Expects these init containers in this order.
    pub(super) fn init_containers(mut self, names: &[&'static str]) -> Self {
        self.init_containers = names.to_vec();
        self
    }

    /// Expects this warning.
    pub(super) fn warned(mut self, warning: &'static str) -> Self {
        self.warnings.push(warning);
        self
    }

    /// Asserts that kubectl has printed exactly the expected warnings.
    pub(super) fn assert_warnings(&self, result: &KubectlResult) -> Result<()> {
        let expected: Vec<String> =
            self.warnings.iter().map(|warning| format!("Warning: {warning}")).collect();
        ensure!(
            result.stderr_lines == expected,
            "kubectl printed {:?} instead of {expected:?}",
            result.stderr_lines
        );
        Ok(())
    }

    /// Returns the directory of the certificate files in the containers.
    pub(super) fn mount_path(&self) -> &str {
        self.annotations
            .get("certmint.dev/mount-path")
            .and_then(Value::as_str)
            .unwrap_or("/var/run/secrets/certmint.dev")
    }

    /// Returns the manifest that a developer writes.
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
