//! The permissions of the release's Roles and ClusterRoles. Each permission is one verb on one resource.

use std::fmt;

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::AuditedRequest;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use serde_json::Value;

/// A permission: one verb on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Permission {
    /// The Role or ClusterRole that grants the permission, as `Kind/name`.
    role: String,
    /// Namespace of the Role; `None` for a ClusterRole.
    namespace: Option<String>,
    api_group: String,
    /// Resource, with a subresource after a slash.
    resource: String,
    verb: String,
    /// Name of the only object that the permission covers; `None` for all objects.
    name: Option<String>,
}

/// Returns every permission of the release's Roles and ClusterRoles for the controller, as the API server has stored them.
pub(super) fn of_release(cluster: &Cluster) -> Result<Vec<Permission>> {
    let selector = "--selector=app.kubernetes.io/instance=certmint,app.kubernetes.io/component=controller";
    let roles = cluster.kubectl().list(&["clusterroles,roles", "--all-namespaces", selector])?;
    let permissions: Vec<Permission> = roles.iter().flat_map(of_role).collect();
    ensure!(!permissions.is_empty(), "the release has no Roles");
    Ok(permissions)
}

fn of_role(role: &Value) -> Vec<Permission> {
    let metadata = &role["metadata"];
    let title = format!("{}/{}", text(&role["kind"]), text(&metadata["name"]));
    let mut permissions = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let names = texts(&rule["resourceNames"]);
        let names = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
        for api_group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    permissions.extend(names.iter().map(|name| Permission {
                        role: title.clone(),
                        namespace: metadata["namespace"].as_str().map(str::to_owned),
                        api_group: api_group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        name: name.clone(),
                    }));
                }
            }
        }
    }
    permissions
}

impl Permission {
    /// Returns whether a request uses this permission. A request in Certmint's namespace does not count as a use of a
    /// ClusterRole, because the Role in that namespace grants it.
    pub(super) fn covers(&self, request: &AuditedRequest) -> bool {
        let object = &request.object;
        let namespace_matches = match &self.namespace {
            Some(namespace) => object.namespace == *namespace,
            None => object.namespace != SYSTEM_NAMESPACE,
        };
        let resource = match object.subresource.as_str() {
            "" => object.resource.clone(),
            subresource => format!("{}/{subresource}", object.resource),
        };
        namespace_matches
            && self.verb == request.verb
            && self.api_group == object.api_group
            && self.resource == resource
            && self.name.as_ref().is_none_or(|name| *name == object.name)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, namespace, api_group, resource, verb, name } = self;
        let in_namespace =
            namespace.as_deref().map_or_else(String::new, |namespace| format!(" in {namespace}"));
        let name = name.as_deref().unwrap_or("any");
        write!(out, "{role}{in_namespace}: {verb} {resource} {name} (API group {api_group:?})")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|value| text(value).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(namespace: &str, verb: &str, name: &str) -> AuditedRequest {
        let object = json!({ "namespace": namespace, "resource": "secrets", "name": name });
        let request =
            json!({ "verb": verb, "user": { "username": "certmint-controller" }, "objectRef": object });
        serde_json::from_value(request).unwrap()
    }

    #[test]
    fn a_permission_covers_the_requests_within_it() {
        let rules = json!([{ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ca"], "verbs": ["get"] }]);
        let role =
            |metadata: Value| of_role(&json!({ "kind": "Role", "metadata": metadata, "rules": rules }));
        let [in_role] = &role(json!({ "name": "r", "namespace": SYSTEM_NAMESPACE }))[..] else { panic!() };
        assert!(in_role.covers(&request(SYSTEM_NAMESPACE, "get", "ca")));
        assert!(!in_role.covers(&request(SYSTEM_NAMESPACE, "get", "other")));
        assert!(!in_role.covers(&request(SYSTEM_NAMESPACE, "patch", "ca")));
        assert!(!in_role.covers(&request("shop", "get", "ca")));
        let [in_cluster_role] = &role(json!({ "name": "r" }))[..] else { panic!() };
        assert!(in_cluster_role.covers(&request("shop", "get", "ca")));
        assert!(!in_cluster_role.covers(&request(SYSTEM_NAMESPACE, "get", "ca")));
    }
}
