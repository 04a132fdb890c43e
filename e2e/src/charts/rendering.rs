//! What must hold of the rendered objects, whatever the values.

use anyhow::{Context as _, Result, bail, ensure};
use certmint_contract::Policy;
use serde_json::{Value, json};

use super::manifest::{Manifest, items, texts, title};
use super::values::ValueSet;
use super::{Chart, NAMESPACE};

/// Kinds that have no namespace.
const CLUSTER_SCOPED: [&str; 3] = ["ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration"];
/// Verbs by which an account could give itself more than it has.
const ESCALATING: [&str; 3] = ["bind", "escalate", "impersonate"];

pub(super) fn check(chart: &Chart, set: &ValueSet) -> Result<()> {
    let manifest = chart.render(set.set)?;
    for object in manifest.objects() {
        lies_in_its_place(object, set).with_context(|| title(object))?;
    }
    for deployment in manifest.of_kind("Deployment") {
        restricted(deployment)
            .and_then(|()| rolls_without_a_gap(deployment))
            .and_then(|()| is_reached(&manifest, deployment))
            .with_context(|| title(deployment))?;
    }
    least_privilege(&manifest)?;
    secrets_of_named_namespaces_only(&manifest, set)?;
    manifest.of_kind("MutatingWebhookConfiguration").try_for_each(|object| webhooks(&manifest, object, set))
}

/// The chart's default policy says what the code does without one.
pub(super) fn policy_is_the_default(chart: &Chart) -> Result<()> {
    let manifest = chart.render(&[])?;
    let policy = &manifest.object("ConfigMap", "certmint-policy")?["data"]["policy.json"];
    let policy = Policy::from_json(policy.as_str().unwrap_or_default().as_bytes())?;
    ensure!(
        policy == Policy::default(),
        "the chart's policy {policy:?} is not the default {:?}",
        Policy::default()
    );
    Ok(())
}

fn lies_in_its_place(object: &Value, set: &ValueSet) -> Result<()> {
    let metadata = &object["metadata"];
    let test = metadata["annotations"]["helm.sh/hook"] == "test";
    let expected: Vec<Value> = match object["kind"].as_str() {
        Some(kind) if CLUSTER_SCOPED.contains(&kind) => vec![Value::Null],
        Some("Pod") if test => vec![json!(set.namespaces.first().unwrap_or(&"default"))],
        Some("Role" | "RoleBinding") => {
            [NAMESPACE].iter().chain(set.namespaces).map(|name| json!(name)).collect()
        }
        _ => vec![json!(NAMESPACE)],
    };
    ensure!(expected.contains(&metadata["namespace"]), "its namespace is {}", metadata["namespace"]);
    for label in ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"] {
        ensure!(metadata["labels"][label].is_string(), "it has no label {label}");
    }
    Ok(())
}

/// The Pod Security Standard "restricted", and more: a fixed uid, a read-only root, resources.
fn restricted(deployment: &Value) -> Result<()> {
    let pod = &deployment["spec"]["template"]["spec"];
    let context = &pod["securityContext"];
    ensure!(
        context["runAsNonRoot"] == true && context["runAsUser"] == 65532,
        "it may run as root: {context}"
    );
    ensure!(context["seccompProfile"]["type"] == "RuntimeDefault", "it has no seccomp profile: {context}");
    for field in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
        ensure!(pod[field].is_null(), "it has {field}");
    }
    for volume in items(&pod["volumes"]) {
        ensure!(volume["hostPath"].is_null(), "it mounts a host path: {volume}");
    }
    for container in items(&pod["containers"]) {
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": { "drop": ["ALL"] },
        });
        ensure!(
            container["securityContext"] == expected,
            "its container has {}",
            container["securityContext"]
        );
        for quantity in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            ensure!(container["resources"].pointer(quantity).is_some(), "its container has no {quantity}");
        }
    }
    Ok(())
}

fn rolls_without_a_gap(deployment: &Value) -> Result<()> {
    let spec = &deployment["spec"];
    ensure!(spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0, "a pod goes before another is ready");
    let pod = &spec["template"]["spec"];
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(0);
    for container in items(&pod["containers"]) {
        let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
        ensure!(0 < pause && pause < grace, "it sleeps {pause} s of {grace} s before SIGTERM");
        for probe in ["readinessProbe", "livenessProbe"] {
            ensure!(
                container[probe]["httpGet"]["port"] == "metrics",
                "it has no {probe} on its metrics port"
            );
        }
    }
    Ok(())
}

/// One Service and one PodDisruptionBudget select its pods, and the Service's ports exist.
fn is_reached(manifest: &Manifest, deployment: &Value) -> Result<()> {
    let template = &deployment["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    ensure!(
        selects(&deployment["spec"]["selector"]["matchLabels"], labels),
        "it does not select its own pods"
    );
    let budgets = manifest
        .of_kind("PodDisruptionBudget")
        .filter(|b| selects(&b["spec"]["selector"]["matchLabels"], labels));
    ensure!(budgets.count() == 1, "not exactly one PodDisruptionBudget selects its pods");
    let services: Vec<_> =
        manifest.of_kind("Service").filter(|s| selects(&s["spec"]["selector"], labels)).collect();
    let [service] = services.as_slice() else { bail!("not exactly one Service selects its pods") };
    for port in items(&service["spec"]["ports"]) {
        let found = items(&template["spec"]["containers"])
            .iter()
            .flat_map(|container| items(&container["ports"]))
            .any(|open| open["name"] == port["targetPort"]);
        ensure!(found, "{} leads to a port that no container has: {port}", title(service));
    }
    Ok(())
}

fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
    })
}

/// No wildcard, no way to more rights, and nothing at all for the webhook.
fn least_privilege(manifest: &Manifest) -> Result<()> {
    for role in manifest.of_kind("ClusterRole").chain(manifest.of_kind("Role")) {
        for rule in items(&role["rules"]) {
            for field in ["apiGroups", "resources", "verbs"] {
                let words = texts(&rule[field]);
                ensure!(
                    !words.is_empty() && !words.contains(&"*"),
                    "{} has a rule for any {field}: {rule}",
                    title(role)
                );
                let escalates = words.iter().any(|word| ESCALATING.contains(word));
                ensure!(!escalates, "{} can escalate: {rule}", title(role));
            }
        }
        ensure!(role["aggregationRule"].is_null(), "{} is aggregated", title(role));
    }
    for binding in manifest.of_kind("ClusterRoleBinding").chain(manifest.of_kind("RoleBinding")) {
        for subject in items(&binding["subjects"]) {
            let controller = subject["kind"] == "ServiceAccount"
                && subject["namespace"] == NAMESPACE
                && subject["name"].as_str().is_some_and(|name| name.ends_with("-controller"));
            ensure!(controller, "{} gives rights to {subject}", title(binding));
        }
    }
    for account in manifest.of_kind("ServiceAccount") {
        ensure!(account["automountServiceAccountToken"] == false, "{} hands out tokens", title(account));
    }
    let without_token = manifest
        .of_kind("Deployment")
        .filter(|deployment| deployment["spec"]["template"]["spec"]["automountServiceAccountToken"] == false)
        .map(title)
        .collect::<Vec<_>>();
    let only_the_webhook = matches!(without_token.as_slice(), [one] if one.ends_with("-webhook"));
    ensure!(only_the_webhook, "without a token run {without_token:?}");
    Ok(())
}

/// Secrets of the whole cluster are in reach only when the whole cluster is served.
fn secrets_of_named_namespaces_only(manifest: &Manifest, set: &ValueSet) -> Result<()> {
    let reaching = |kind| {
        let roles = manifest.of_kind(kind).filter(|role| {
            items(&role["rules"]).iter().any(|rule| {
                texts(&rule["resources"]).contains(&"secrets") && texts(&rule["verbs"]).contains(&"list")
            })
        });
        roles.map(|role| role["metadata"]["namespace"].as_str().unwrap_or("")).collect::<Vec<_>>()
    };
    let cluster_wide: &[&str] = if set.namespaces.is_empty() { &[""] } else { &[] };
    ensure!(reaching("ClusterRole") == cluster_wide, "ClusterRoles reach Secrets of the whole cluster");
    ensure!(reaching("Role") == set.namespaces, "Roles reach the Secrets of {:?}", reaching("Role"));
    Ok(())
}

fn webhooks(manifest: &Manifest, configuration: &Value, set: &ValueSet) -> Result<()> {
    let policies = [
        ("pods.certmint.dev", "Fail"),
        ("running-pods.certmint.dev", "Ignore"),
        ("workloads.certmint.dev", "Ignore"),
    ];
    let found: Vec<_> = items(&configuration["webhooks"])
        .iter()
        .map(|webhook| {
            (webhook["name"].as_str().unwrap_or("?"), webhook["failurePolicy"].as_str().unwrap_or("?"))
        })
        .collect();
    ensure!(found == policies, "{} has {found:?}", title(configuration));
    for webhook in items(&configuration["webhooks"]) {
        let client = &webhook["clientConfig"];
        ensure!(client["caBundle"].is_null(), "the caBundle is the controller's: {client}");
        let service = client["service"]["name"].as_str().unwrap_or("?");
        let service = manifest.object("Service", service)?;
        let open =
            items(&service["spec"]["ports"]).iter().any(|port| port["port"] == client["service"]["port"]);
        ensure!(open, "{} has no port {}", title(service), client["service"]["port"]);
        ensure!(webhook["sideEffects"] == "None", "{webhook} owns up to side effects");
        ensure!(
            webhook["timeoutSeconds"].as_u64().is_some_and(|most| most <= 5),
            "{webhook} may take too long"
        );
        ensure!(!items(&webhook["matchConditions"]).is_empty(), "{webhook} sees everybody's objects");
        let selected = &webhook["namespaceSelector"]["matchExpressions"];
        let named = |operator, values| json!({ "key": "kubernetes.io/metadata.name", "operator": operator, "values": values });
        let mut expected = vec![named("NotIn", json!(["kube-system", NAMESPACE]))];
        expected.extend((!set.namespaces.is_empty()).then(|| named("In", json!(set.namespaces))));
        ensure!(*selected == Value::from(expected), "{webhook} selects namespaces by {selected}");
    }
    Ok(())
}
