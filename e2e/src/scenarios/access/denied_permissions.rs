//! Permissions that Certmint's service accounts must not have.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::progress::{note, step};
use serde_json::Value;

use super::NAMESPACE;

/// A service account.
#[derive(Debug, Clone, Copy)]
struct Account {
    namespace: &'static str,
    name: &'static str,
}

const CONTROLLER: Account = Account { namespace: SYSTEM_NAMESPACE, name: "certmint-controller" };
const WEBHOOK: Account = Account { namespace: SYSTEM_NAMESPACE, name: "certmint-webhook" };
const INJECTED: Account = Account { namespace: NAMESPACE, name: "default" };
/// Account without any Role.
const WITHOUT_ROLES: Account = Account { namespace: NAMESPACE, name: "without-roles" };

/// Permissions that would help an attacker who controls the controller: verb, object, namespace.
const DENIED: &[(&str, &str, &str)] = &[
    ("*", "*", NAMESPACE),
    ("list", "nodes", NAMESPACE),
    ("get", "nodes/proxy", NAMESPACE),
    ("list", "namespaces", NAMESPACE),
    ("create", "pods", NAMESPACE),
    ("create", "pods", SYSTEM_NAMESPACE),
    ("patch", "pods", NAMESPACE),
    ("delete", "pods", NAMESPACE),
    ("update", "pods/ephemeralcontainers", NAMESPACE),
    ("create", "pods/exec", NAMESPACE),
    ("get", "pods/log", NAMESPACE),
    ("patch", "deployments.apps", NAMESPACE),
    ("patch", "deployments.apps/certmint-controller", SYSTEM_NAMESPACE),
    ("create", "jobs.batch", NAMESPACE),
    ("update", "secrets", NAMESPACE),
    ("deletecollection", "secrets", NAMESPACE),
    ("create", "serviceaccounts/token", NAMESPACE),
    ("create", "serviceaccounts/token", SYSTEM_NAMESPACE),
    ("create", "serviceaccounts", NAMESPACE),
    ("get", "configmaps", NAMESPACE),
    ("list", "configmaps", SYSTEM_NAMESPACE),
    ("get", "configmaps/certmint-policy", SYSTEM_NAMESPACE),
    ("delete", "configmaps/certmint-trust-bundle", SYSTEM_NAMESPACE),
    ("patch", "configmaps/certmint-issuing-ca-request", SYSTEM_NAMESPACE),
    ("update", "leases.coordination.k8s.io/other", SYSTEM_NAMESPACE),
    ("get", "leases.coordination.k8s.io", "kube-system"),
    ("list", "events", NAMESPACE),
    ("impersonate", "users", NAMESPACE),
    ("impersonate", "groups", NAMESPACE),
    ("impersonate", "serviceaccounts", NAMESPACE),
    ("bind", "clusterroles.rbac.authorization.k8s.io", NAMESPACE),
    ("escalate", "clusterroles.rbac.authorization.k8s.io", NAMESPACE),
    ("get", "clusterroles.rbac.authorization.k8s.io", NAMESPACE),
    ("create", "rolebindings.rbac.authorization.k8s.io", NAMESPACE),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", NAMESPACE),
    ("create", "subjectaccessreviews.authorization.k8s.io", NAMESPACE),
    ("update", "certificatesigningrequests.certificates.k8s.io/approval", NAMESPACE),
    ("list", "mutatingwebhookconfigurations.admissionregistration.k8s.io", NAMESPACE),
    ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io", NAMESPACE),
    ("delete", "mutatingwebhookconfigurations.admissionregistration.k8s.io/certmint", NAMESPACE),
    ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/other", NAMESPACE),
    ("patch", "validatingwebhookconfigurations.admissionregistration.k8s.io", NAMESPACE),
];

pub(super) fn check(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.run(&["create", "serviceaccount", WITHOUT_ROLES.name])?;
    step(&format!("the controller does not have {} other permissions", DENIED.len()), || {
        DENIED
            .iter()
            .try_for_each(|(verb, object, namespace)| assert_denied(cluster, verb, object, namespace))
    })?;
    step("webhook and injected pods have the permissions of an account without Roles", || {
        let expected = list_permissions(cluster, WITHOUT_ROLES)?;
        for account in [WEBHOOK, INJECTED] {
            let found = list_permissions(cluster, account)?;
            ensure!(
                found == expected,
                "{account:?} has the permissions\n{found}\nand an account without Roles has\n{expected}"
            );
        }
        Ok(())
    })?;
    step("the webhook's pods and the container app have no token", || assert_no_token(cluster, kubectl))?;
    step("the API server rejects tokens for other audiences and requests without a permission", || {
        assert_token_permissions(cluster, kubectl)
    })
}

/// Returns the kubectl options that impersonate an account.
fn impersonation(Account { namespace, name }: Account) -> [String; 4] {
    [
        format!("--as=system:serviceaccount:{namespace}:{name}"),
        "--as-group=system:serviceaccounts".to_owned(),
        format!("--as-group=system:serviceaccounts:{namespace}"),
        "--as-group=system:authenticated".to_owned(),
    ]
}

fn assert_denied(cluster: &Cluster, verb: &str, object: &str, namespace: &str) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(namespace);
    // `kubectl auth can-i` expects a subresource as an option, and the name of an object after a slash.
    let (object, subresource) = match object.split_once('/') {
        Some((object, part @ ("proxy" | "exec" | "log" | "token" | "approval" | "ephemeralcontainers"))) => {
            (object, Some(format!("--subresource={part}")))
        }
        _ => (object, None),
    };
    let mut can_i = kubectl.command(&["auth", "can-i", verb, object]);
    can_i.args(subresource).args(impersonation(CONTROLLER));
    let output = can_i.output().context("cannot start kubectl")?;
    let answer = String::from_utf8_lossy(&output.stdout);
    ensure!(
        answer.trim().starts_with("no"),
        "the controller has the permission to {verb} {object} in {namespace}: {answer}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Returns the permissions of an account in its own namespace, as kubectl lists them.
fn list_permissions(cluster: &Cluster, account: Account) -> Result<String> {
    let impersonation = impersonation(account);
    let options: Vec<&str> = impersonation.iter().map(String::as_str).collect();
    cluster.kubectl().namespace(account.namespace).run(&[&["auth", "can-i", "--list"], &options[..]].concat())
}

fn assert_no_token(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    for pod in system.list(&["pods", "--selector=app.kubernetes.io/component=webhook"])? {
        let volumes = pod["spec"]["volumes"].as_array();
        let token =
            volumes.into_iter().flatten().find(|volume| volume.to_string().contains("serviceAccountToken"));
        ensure!(token.is_none(), "a webhook pod has the volume {}", token.unwrap_or(&Value::Null));
    }
    let listed = kubectl
        .exec("deployment/stays", "app", &["sh", "-c", "ls /certmint /var/run/secrets"])
        .unwrap_or_else(|error| error.to_string());
    ensure!(
        !listed.contains("kubernetes.io") && !listed.contains("token"),
        "the container app sees the files {listed}"
    );
    Ok(())
}

/// Sends requests to the API server from a pod, with new tokens of the accounts.
fn assert_token_permissions(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let pods = kubectl.list(&["pods", "--selector=app=stays"])?;
    let pod = pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).context("there is no pod")?;
    let bound = format!("--bound-object-name={pod}");
    let injected = ["--audience=certmint.dev", "--bound-object-kind=Pod", &bound];
    for (account, options, path, status) in [
        // A token for another audience does not authenticate anyone.
        (INJECTED, &injected[..], "/version", "401"),
        (INJECTED, &injected, "/api/v1/namespaces/access/secrets", "401"),
        (WEBHOOK, &[], "/api", "200"),
        (WEBHOOK, &[], "/api/v1/namespaces/certmint-system/secrets", "403"),
        (CONTROLLER, &[], "/api/v1/nodes", "403"),
        (CONTROLLER, &[], "/api/v1/namespaces/access/configmaps", "403"),
    ] {
        let create = [&["create", "token", account.name], options].concat();
        let token = cluster.kubectl().namespace(account.namespace).run(&create)?;
        let header = format!("Authorization: Bearer {}", token.trim());
        let url = format!("https://kubernetes.default.svc{path}");
        let curl = ["curl", "--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{http_code}"];
        let answer = kubectl.exec(pod, "app", &[&curl[..], &["--header", &header, &url]].concat())?;
        ensure!(
            answer == status,
            "the API server answered {answer} to {} for {path}, not {status}",
            account.name
        );
        note(&format!("{} {path}: {answer}", account.name));
    }
    Ok(())
}
