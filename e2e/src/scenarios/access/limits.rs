//! What the accounts may not do.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::progress::{note, step};
use serde_json::Value;

use super::SHOP;

const CONTROLLER: (&str, &str) = (SYSTEM_NAMESPACE, "certmint-controller");
const WEBHOOK: (&str, &str) = (SYSTEM_NAMESPACE, "certmint-webhook");
const INJECTED: (&str, &str) = (SHOP, "default");
/// An account that nobody has given anything.
const NOBODY: (&str, &str) = (SHOP, "nobody");

/// What would be worth having to somebody who took the controller over: verb, object, namespace.
const REFUSED: &[(&str, &str, &str)] = &[
    ("*", "*", SHOP),
    ("list", "nodes", SHOP),
    ("get", "nodes/proxy", SHOP),
    ("list", "namespaces", SHOP),
    ("create", "pods", SHOP),
    ("create", "pods", SYSTEM_NAMESPACE),
    ("patch", "pods", SHOP),
    ("delete", "pods", SHOP),
    ("update", "pods/ephemeralcontainers", SHOP),
    ("create", "pods/exec", SHOP),
    ("get", "pods/log", SHOP),
    ("patch", "deployments.apps", SHOP),
    ("patch", "deployments.apps/certmint-controller", SYSTEM_NAMESPACE),
    ("create", "jobs.batch", SHOP),
    ("update", "secrets", SHOP),
    ("deletecollection", "secrets", SHOP),
    ("create", "serviceaccounts/token", SHOP),
    ("create", "serviceaccounts/token", SYSTEM_NAMESPACE),
    ("create", "serviceaccounts", SHOP),
    ("get", "configmaps", SHOP),
    ("list", "configmaps", SYSTEM_NAMESPACE),
    ("get", "configmaps/certmint-policy", SYSTEM_NAMESPACE),
    ("patch", "configmaps/certmint-trust-bundle", SYSTEM_NAMESPACE),
    ("update", "leases.coordination.k8s.io/other", SYSTEM_NAMESPACE),
    ("get", "leases.coordination.k8s.io", "kube-system"),
    ("list", "events", SHOP),
    ("impersonate", "users", SHOP),
    ("impersonate", "groups", SHOP),
    ("impersonate", "serviceaccounts", SHOP),
    ("bind", "clusterroles.rbac.authorization.k8s.io", SHOP),
    ("escalate", "clusterroles.rbac.authorization.k8s.io", SHOP),
    ("get", "clusterroles.rbac.authorization.k8s.io", SHOP),
    ("create", "rolebindings.rbac.authorization.k8s.io", SHOP),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", SHOP),
    ("create", "subjectaccessreviews.authorization.k8s.io", SHOP),
    ("update", "certificatesigningrequests.certificates.k8s.io/approval", SHOP),
    ("list", "mutatingwebhookconfigurations.admissionregistration.k8s.io", SHOP),
    ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io", SHOP),
    ("delete", "mutatingwebhookconfigurations.admissionregistration.k8s.io/certmint", SHOP),
    ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/other", SHOP),
    ("patch", "validatingwebhookconfigurations.admissionregistration.k8s.io", SHOP),
];

pub(super) fn check(cluster: &Cluster, shop: &Kubectl<'_>) -> Result<()> {
    shop.run(&["create", "serviceaccount", NOBODY.1])?;
    step(&format!("{} things that the controller may not do", REFUSED.len()), || {
        REFUSED.iter().try_for_each(|(verb, object, namespace)| refused(cluster, verb, object, namespace))
    })?;
    step("webhook and injected pods may do what nobody in particular may", || {
        let nothing = rights(cluster, NOBODY)?;
        for account in [WEBHOOK, INJECTED] {
            let rights = rights(cluster, account)?;
            ensure!(
                rights == nothing,
                "{account:?} may do\n{rights}\nand an account without Roles\n{nothing}"
            );
        }
        Ok(())
    })?;
    step("the webhook's pods and the app's container hold no token", || no_token(cluster, shop))?;
    step("the API server takes nobody's word for our tokens", || tokens(cluster, shop))
}

/// kubectl's options to be an account.
fn being((namespace, name): (&str, &str)) -> [String; 4] {
    [
        format!("--as=system:serviceaccount:{namespace}:{name}"),
        "--as-group=system:serviceaccounts".to_owned(),
        format!("--as-group=system:serviceaccounts:{namespace}"),
        "--as-group=system:authenticated".to_owned(),
    ]
}

fn refused(cluster: &Cluster, verb: &str, object: &str, namespace: &str) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(namespace);
    // A subresource is named by an option, an object's name after a slash.
    let (object, subresource) = match object.split_once('/') {
        Some((object, part @ ("proxy" | "exec" | "log" | "token" | "approval" | "ephemeralcontainers"))) => {
            (object, Some(format!("--subresource={part}")))
        }
        _ => (object, None),
    };
    let mut can_i = kubectl.command(&["auth", "can-i", verb, object]);
    can_i.args(subresource).args(being(CONTROLLER));
    let output = can_i.output().context("cannot start kubectl")?;
    let answer = String::from_utf8_lossy(&output.stdout);
    ensure!(
        answer.trim().starts_with("no"),
        "the controller may {verb} {object} in {namespace}: {answer}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What an account may do in its own namespace.
fn rights(cluster: &Cluster, account: (&str, &str)) -> Result<String> {
    let being = being(account);
    let options: Vec<&str> = being.iter().map(String::as_str).collect();
    cluster.kubectl().namespace(account.0).run(&[&["auth", "can-i", "--list"], &options[..]].concat())
}

fn no_token(cluster: &Cluster, shop: &Kubectl<'_>) -> Result<()> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    for pod in system.list(&["pods", "--selector=app.kubernetes.io/component=webhook"])? {
        let volumes = pod["spec"]["volumes"].as_array();
        let token =
            volumes.into_iter().flatten().find(|volume| volume.to_string().contains("serviceAccountToken"));
        ensure!(token.is_none(), "a webhook pod has the volume {}", token.unwrap_or(&Value::Null));
    }
    let listed = shop
        .exec("deployment/stays", "app", &["sh", "-c", "ls /certmint /var/run/secrets"])
        .unwrap_or_else(|error| error.to_string());
    ensure!(!listed.contains("kubernetes.io") && !listed.contains("token"), "the app sees {listed}");
    Ok(())
}

/// Tokens as the API server gives them out, shown to it from within a pod.
fn tokens(cluster: &Cluster, shop: &Kubectl<'_>) -> Result<()> {
    let pods = shop.list(&["pods", "--selector=app=stays"])?;
    let pod = pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).context("there is no pod")?;
    let bound = format!("--bound-object-name={pod}");
    let injected = ["--audience=certmint.dev", "--bound-object-kind=Pod", &bound];
    for (account, options, path, status) in [
        // Another audience's token is nobody's.
        (INJECTED, &injected[..], "/version", "401"),
        (INJECTED, &injected, "/api/v1/namespaces/access/secrets", "401"),
        (WEBHOOK, &[], "/api", "200"),
        (WEBHOOK, &[], "/api/v1/namespaces/certmint-system/secrets", "403"),
        (CONTROLLER, &[], "/api/v1/nodes", "403"),
        (CONTROLLER, &[], "/api/v1/namespaces/access/configmaps", "403"),
    ] {
        let create = [&["create", "token", account.1], options].concat();
        let token = cluster.kubectl().namespace(account.0).run(&create)?;
        let header = format!("Authorization: Bearer {}", token.trim());
        let url = format!("https://kubernetes.default.svc{path}");
        let curl = ["curl", "--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{http_code}"];
        let answer = shop.exec(pod, "app", &[&curl[..], &["--header", &header, &url]].concat())?;
        ensure!(answer == status, "{} was answered {answer} for {path}, not {status}", account.1);
        note(&format!("{} {path}: {answer}", account.1));
    }
    Ok(())
}
