//! The rights that the release's Roles give, one verb on one resource each.

use std::fmt;

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::Request;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use serde_json::Value;

/// One right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// The Role that gives it, as `Kind/name`.
    role: String,
    /// The namespace it ends at; a ClusterRole's has none.
    namespace: Option<String>,
    api_group: String,
    /// With its subresource after a slash, if it is for that.
    resource: String,
    verb: String,
    /// The only object it is for, if it is for one.
    name: Option<String>,
}

/// Every right of the release's Roles and ClusterRoles, as the API server has them.
pub(super) fn of_release(cluster: &Cluster) -> Result<Vec<Grant>> {
    let selector = "--selector=app.kubernetes.io/instance=certmint";
    let roles = cluster.kubectl().list(&["clusterroles,roles", "--all-namespaces", selector])?;
    let grants: Vec<Grant> = roles.iter().flat_map(of_role).collect();
    ensure!(!grants.is_empty(), "the release has no Roles");
    Ok(grants)
}

fn of_role(role: &Value) -> Vec<Grant> {
    let metadata = &role["metadata"];
    let title = format!("{}/{}", text(&role["kind"]), text(&metadata["name"]));
    let mut grants = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let names = texts(&rule["resourceNames"]);
        let names = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
        for api_group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    grants.extend(names.iter().map(|name| Grant {
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
    grants
}

impl Grant {
    /// Whether a request needs this right. One in our own namespace is what the Role there is for, and no reason for a
    /// ClusterRole.
    pub(super) fn covers(&self, request: &Request) -> bool {
        let object = &request.object;
        let place = match &self.namespace {
            Some(namespace) => object.namespace == *namespace,
            None => object.namespace != SYSTEM_NAMESPACE,
        };
        let resource = match object.subresource.as_str() {
            "" => object.resource.clone(),
            subresource => format!("{}/{subresource}", object.resource),
        };
        place
            && self.verb == request.verb
            && self.api_group == object.api_group
            && self.resource == resource
            && self.name.as_ref().is_none_or(|name| *name == object.name)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, namespace, api_group, resource, verb, name } = self;
        let place = namespace.as_deref().map_or_else(String::new, |namespace| format!(" in {namespace}"));
        let name = name.as_deref().unwrap_or("any");
        write!(out, "{role}{place}: {verb} {resource} {name} (API group {api_group:?})")
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

    fn request(namespace: &str, verb: &str, name: &str) -> Request {
        let object = json!({ "namespace": namespace, "resource": "secrets", "name": name });
        let request =
            json!({ "verb": verb, "user": { "username": "certmint-controller" }, "objectRef": object });
        serde_json::from_value(request).unwrap()
    }

    #[test]
    fn a_right_is_needed_by_a_request_within_it() {
        let rules = json!([{ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ca"], "verbs": ["get"] }]);
        let role =
            |metadata: Value| of_role(&json!({ "kind": "Role", "metadata": metadata, "rules": rules }));
        let [own] = &role(json!({ "name": "r", "namespace": SYSTEM_NAMESPACE }))[..] else { panic!() };
        assert!(own.covers(&request(SYSTEM_NAMESPACE, "get", "ca")));
        assert!(!own.covers(&request(SYSTEM_NAMESPACE, "get", "other")));
        assert!(!own.covers(&request(SYSTEM_NAMESPACE, "patch", "ca")));
        assert!(!own.covers(&request("shop", "get", "ca")));
        let [everywhere] = &role(json!({ "name": "r" }))[..] else { panic!() };
        assert!(everywhere.covers(&request("shop", "get", "ca")));
        assert!(!everywhere.covers(&request(SYSTEM_NAMESPACE, "get", "ca")));
    }
}
