//! Tests of the permissions of the chart's service accounts, and the tables of the RBAC rules for the documentation.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::chart::NAMESPACE;
use crate::manifest::{Manifest, items, texts, title};
use crate::value_sets::ValueSet;

/// Verbs by which an account could give itself more permissions.
const ESCALATING: [&str; 3] = ["bind", "escalate", "impersonate"];

/// Checks that the roles have no wildcards, that the controller cannot give itself more permissions, that the
/// webhook has no permissions, and that Secrets are accessible only in the configured namespaces.
pub(crate) fn check(manifest: &Manifest, set: &ValueSet) -> Result<()> {
    let roles = || manifest.of_kind("ClusterRole").chain(manifest.of_kind("Role"));
    let bindings = || manifest.of_kind("ClusterRoleBinding").chain(manifest.of_kind("RoleBinding"));
    ensure!(
        set.has_argument("rbac.create=false") == (roles().chain(bindings()).count() == 0),
        "rbac.create has no effect"
    );
    roles().try_for_each(|role| check_role(role).with_context(|| title(role)))?;
    let controller = account_of(manifest, "controller")?;
    for binding in bindings() {
        let expected = json!([{ "kind": "ServiceAccount", "name": controller, "namespace": NAMESPACE }]);
        ensure!(
            binding["subjects"] == expected,
            "{} gives permissions to {}",
            title(binding),
            binding["subjects"]
        );
    }
    check_secrets(manifest, set)?;
    check_tokens(manifest, set)
}

/// Returns tables of the rules in a rendered chart: each role, with the comment above each rule.
pub(crate) fn page(rendered: &str) -> Result<String> {
    let documents = rendered
        .split("\n---\n")
        .filter(|document| document.lines().any(|line| matches!(line, "kind: ClusterRole" | "kind: Role")));
    documents.map(section).collect::<Result<Vec<_>>>().map(|sections| sections.join("\n"))
}

fn section(document: &str) -> Result<String> {
    let role: Value = serde_saphyr::from_str(document)?;
    let title = title(&role);
    let rules = items(&role["rules"]);
    let (_, text) = document.split_once("\nrules:\n").with_context(|| format!("{title} has no rules"))?;
    let reasons = reasons(text);
    ensure!(
        reasons.len() == rules.len() && reasons.iter().all(|reason| !reason.is_empty()),
        "a rule of {title} has no reason: write a comment above it"
    );
    let words = |value: &Value| match texts(value).as_slice() {
        [] => "all".to_owned(),
        texts => texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", "),
    };
    let rows = rules.iter().zip(reasons).map(|(rule, reason)| {
        let group = words(&rule["apiGroups"]).replace("``", "core");
        let cells = [words(&rule["resources"]), words(&rule["resourceNames"]), words(&rule["verbs"])];
        format!("| {group} | {} | {reason} |\n", cells.join(" | "))
    });
    let head = "| API group | resources | names of the objects | verbs | why |\n|---|---|---|---|---|\n";
    Ok(format!("### {title}\n\n{head}{}", rows.collect::<String>()))
}

/// Returns the comment above each rule. A rule without a comment has the purpose of the rule above it.
fn reasons(rules: &str) -> Vec<String> {
    let (mut reasons, mut comment) = (Vec::<String>::new(), String::new());
    for line in rules.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("# ") {
            comment = [comment.as_str(), words].join(" ").trim().to_owned();
        } else if line.starts_with("- apiGroups:") {
            let previous = || reasons.last().cloned().unwrap_or_default();
            let reason = if comment.is_empty() { previous() } else { std::mem::take(&mut comment) };
            reasons.push(reason);
        }
    }
    reasons
}

fn check_role(role: &Value) -> Result<()> {
    for rule in items(&role["rules"]) {
        for field in ["apiGroups", "resources", "verbs"] {
            let words = texts(&rule[field]);
            ensure!(!words.is_empty() && !words.contains(&"*"), "it has a rule for any {field}: {rule}");
            ensure!(!words.iter().any(|word| ESCALATING.contains(word)), "it can escalate: {rule}");
        }
        let roles = texts(&rule["apiGroups"]).contains(&"rbac.authorization.k8s.io");
        ensure!(!roles, "it can change the permissions of other accounts: {rule}");
    }
    ensure!(role["aggregationRule"].is_null(), "it aggregates the rules of other roles");
    let labels = role["metadata"]["labels"].as_object().into_iter().flatten();
    let aggregation_label = labels.map(|(key, _)| key).find(|key| key.contains("/aggregate-to-"));
    ensure!(
        aggregation_label.is_none(),
        "its rules are aggregated into other roles by {aggregation_label:?}"
    );
    Ok(())
}

/// Checks that Secrets of the whole cluster are accessible only when the release serves the whole cluster.
fn check_secrets(manifest: &Manifest, set: &ValueSet) -> Result<()> {
    let reaching = |kind, verbs: &[&str]| {
        let roles = manifest.of_kind(kind).filter(|role| {
            items(&role["rules"]).iter().any(|rule| {
                let has_verb =
                    texts(&rule["verbs"]).iter().any(|verb| verbs.is_empty() || verbs.contains(verb));
                texts(&rule["resources"]).contains(&"secrets") && has_verb
            })
        });
        roles.map(|role| role["metadata"]["namespace"].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    let serves_whole_cluster = set.namespaces.is_empty() && !set.has_argument("rbac.create=false");
    let cluster_wide = reaching("ClusterRole", &[]);
    ensure!(
        cluster_wide.len() == usize::from(serves_whole_cluster),
        "ClusterRoles reach Secrets: {cluster_wide:?}"
    );
    let listed = reaching("Role", &["list", "watch", "deletecollection"]);
    ensure!(listed == set.namespaces, "Roles let Secrets be listed in {listed:?}");
    Ok(())
}

/// Checks that only the controller's pods mount a token, and that accounts mount it by default only if the values say
/// so.
fn check_tokens(manifest: &Manifest, set: &ValueSet) -> Result<()> {
    let automount = set.arguments.iter().any(|value| value.contains(r#""automount":true"#));
    for account in manifest.of_kind("ServiceAccount") {
        ensure!(
            account["automountServiceAccountToken"] == automount,
            "{} mounts tokens by default",
            title(account)
        );
    }
    let webhook = account_of(manifest, "webhook")?;
    ensure!(webhook != account_of(manifest, "controller")?, "both components run as {webhook}");
    for deployment in manifest.of_kind("Deployment") {
        let is_controller = deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "controller";
        let token = &deployment["spec"]["template"]["spec"]["automountServiceAccountToken"];
        ensure!(*token == is_controller, "{} mounts a token: {token}", title(deployment));
    }
    Ok(())
}

fn account_of<'a>(manifest: &'a Manifest, component: &str) -> Result<&'a str> {
    let mut deployments = manifest.of_kind("Deployment");
    let deployment = deployments
        .find(|deployment| deployment["metadata"]["labels"]["app.kubernetes.io/component"] == component)
        .with_context(|| format!("the chart renders no Deployment of the {component}"))?;
    let account = deployment["spec"]["template"]["spec"]["serviceAccountName"].as_str();
    account.with_context(|| format!("{} names no account", title(deployment)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_the_comment_above_them() {
        let rules =
            "  # One\n  # and on.\n  - apiGroups: [a]\n  - apiGroups: [b]\n  # Two.\n  - apiGroups: [c]\n";
        assert_eq!(reasons(rules), ["One and on.", "One and on.", "Two."]);
    }

    #[test]
    fn rejects_roles_with_too_many_permissions() {
        let role = |group: &str, resource: &str, verb: &str| json!({ "rules": [{ "apiGroups": [group], "resources": [resource], "verbs": [verb] }] });
        assert!(check_role(&role("", "pods", "get")).is_ok());
        for (group, resource, verb, words) in [
            ("*", "pods", "get", "any apiGroups"),
            ("", "*", "get", "any resources"),
            ("", "pods", "*", "any verbs"),
            ("", "serviceaccounts", "impersonate", "escalate"),
            ("certificates.k8s.io", "signers", "bind", "escalate"),
            ("rbac.authorization.k8s.io", "roles", "update", "permissions of other accounts"),
        ] {
            let error = check_role(&role(group, resource, verb)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let mut aggregated = role("", "pods", "get");
        aggregated["metadata"] =
            json!({ "labels": { "rbac.authorization.k8s.io/aggregate-to-edit": "true" } });
        assert!(check_role(&aggregated).is_err());
        assert!(check_role(&json!({ "rules": [], "aggregationRule": {} })).is_err());
    }

    #[test]
    fn rejects_rules_without_a_comment() {
        let role = "kind: Role\nmetadata: {name: r}\nrules:\n  - apiGroups: [a]\n    resources: [b]\n    verbs: [get]\n";
        assert!(page(role).unwrap_err().to_string().contains("Role/r has no reason"));
    }
}
