//! Checks of the rendered objects. They hold for each [`ValueSet`].

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_contract::ownership::controlling_workload;
use certmint_contract::{Policy, WorkloadKind, keys, pod_layout};
use serde_json::{Value, json};

use crate::chart::{Chart, NAMESPACE};
use crate::manifest::{Manifest, items, selects, title};
use crate::value_sets::{DEFAULTS, ValueSet};
use crate::{monitoring, permissions};

/// Kinds of objects without a namespace.
const CLUSTER_SCOPED: [&str; 3] = ["ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration"];

pub(crate) fn check(manifest: &Manifest, set: &ValueSet) -> Result<()> {
    for object in manifest.objects() {
        check_namespace_and_labels(object, set).with_context(|| title(object))?;
    }
    for deployment in manifest.of_kind("Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        check_restricted(pod)
            .and_then(|()| check_host_network(deployment, set))
            .and_then(|()| check_node_selector(pod, set))
            .and_then(|()| check_rolling_update(deployment))
            .and_then(|()| check_selectors(manifest, deployment, set))
            .with_context(|| title(deployment))?;
    }
    let tests: Vec<_> = manifest.of_kind("Pod").collect();
    let [test] = tests.as_slice() else { bail!("{} pods are rendered", tests.len()) };
    check_test_pod(test)
        .and_then(|()| check_node_selector(&test["spec"], &DEFAULTS))
        .with_context(|| title(test))?;
    manifest
        .of_kind("Service")
        .try_for_each(|service| check_address_families(service, set).with_context(|| title(service)))?;
    permissions::check(manifest, set)?;
    monitoring::check(manifest, set)?;
    manifest
        .of_kind("MutatingWebhookConfiguration")
        .try_for_each(|object| check_webhooks(manifest, object, set))
}

/// Checks that the chart's default policy is the default of the programs.
pub(crate) fn policy_is_the_default(chart: &Chart) -> Result<()> {
    let manifest = chart.render(&[])?;
    let policy = &manifest.object("ConfigMap", "certmint-policy")?["data"]["policy.json"];
    let policy = Policy::from_json(policy.as_str().unwrap_or_default().as_bytes())?;
    // The chart adds the namespaces in which the webhook never injects pods.
    let excluded_namespaces = ["kube-system", NAMESPACE].iter().flat_map(|name| name.parse()).collect();
    let expected = Policy { excluded_namespaces, ..Policy::default() };
    ensure!(policy == expected, "the chart's policy {policy:?} is not the default {expected:?}");
    Ok(())
}

/// Checks that OpenShift chooses the user of the certmint-fetch container, unless the values set the user. OpenShift
/// assigns users to namespaces.
pub(crate) fn openshift_chooses_the_user(chart: &Chart) -> Result<()> {
    for (api, value, expected) in [
        ("v1", "auto", "set"),
        ("security.openshift.io/v1", "auto", "unset"),
        ("security.openshift.io/v1", "set", "set"),
        ("v1", "unset", "unset"),
    ] {
        let rendered = chart.template_for(api, &[&format!("fetch.runAsUser=\"{value}\"")])?;
        let expected = format!("- --fetch-run-as-user={expected}\n");
        ensure!(
            rendered.contains(&expected),
            "with {api} and {value}, the webhook has no argument {expected}"
        );
    }
    Ok(())
}

fn check_namespace_and_labels(object: &Value, set: &ValueSet) -> Result<()> {
    let metadata = &object["metadata"];
    let is_test = metadata["annotations"]["helm.sh/hook"] == "test";
    let expected: Vec<Value> = match object["kind"].as_str() {
        Some(kind) if CLUSTER_SCOPED.contains(&kind) => vec![Value::Null],
        Some("Pod") if is_test => vec![json!(set.namespaces.first().unwrap_or(&"default"))],
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

/// Checks the Pod Security Standard "restricted", a read-only root file system, and resources.
fn check_restricted(pod: &Value) -> Result<()> {
    let context = &pod["securityContext"];
    ensure!(context["runAsNonRoot"] == true && context["runAsUser"] != 0, "it may run as root: {context}");
    ensure!(context["seccompProfile"]["type"] == "RuntimeDefault", "it has no seccomp profile: {context}");
    for field in ["hostPID", "hostIPC", "initContainers"] {
        ensure!(pod[field].is_null(), "it has {field}");
    }
    for volume in items(&pod["volumes"]) {
        ensure!(volume["hostPath"].is_null(), "it mounts a host path: {volume}");
    }
    for container in items(&pod["containers"]) {
        let context = &container["securityContext"];
        for (field, expected) in [
            ("allowPrivilegeEscalation", json!(false)),
            ("readOnlyRootFilesystem", json!(true)),
            ("runAsNonRoot", json!(true)),
            ("capabilities", json!({ "drop": ["ALL"] })),
        ] {
            ensure!(context[field] == expected, "its container has {field} {}", context[field]);
        }
        for quantity in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            ensure!(container["resources"].pointer(quantity).is_some(), "its container has no {quantity}");
        }
    }
    Ok(())
}

/// Checks that only the webhook uses its host's network, and only when the values say so.
fn check_host_network(deployment: &Value, set: &ValueSet) -> Result<()> {
    let is_webhook = deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "webhook";
    let pod = &deployment["spec"]["template"]["spec"];
    let (network, dns_policy) = (&pod["hostNetwork"], &pod["dnsPolicy"]);
    let fits = if is_webhook && set.mentions(r#""hostNetwork":true"#) {
        *network == true && *dns_policy == "ClusterFirstWithHostNet"
    } else {
        network.is_null() && dns_policy.is_null()
    };
    ensure!(fits, "it has hostNetwork {network} with dnsPolicy {dns_policy}");
    Ok(())
}

/// Checks that pods select nodes with the images' operating system and architecture, unless the values select others.
fn check_node_selector(pod: &Value, set: &ValueSet) -> Result<()> {
    let selector = &pod["nodeSelector"];
    ensure!(
        selector["kubernetes.io/os"] == "linux",
        "it selects nodes with any operating system: {selector}"
    );
    let (architecture, allows_any) =
        (&selector["kubernetes.io/arch"], set.mentions(r#""kubernetes.io/arch":null"#));
    let fits = if allows_any { architecture.is_null() } else { *architecture == "amd64" };
    ensure!(fits, "it selects nodes with the architecture {architecture}");
    Ok(())
}

/// Checks that the cluster chooses the Service's address families unless the values do.
fn check_address_families(service: &Value, set: &ValueSet) -> Result<()> {
    let is_configured = set.mentions("service=");
    let (policy, families) = (&service["spec"]["ipFamilyPolicy"], &service["spec"]["ipFamilies"]);
    let fits = if is_configured {
        *policy == "RequireDualStack" && *families == json!(["IPv6", "IPv4"])
    } else {
        policy.is_null() && families.is_null()
    };
    ensure!(fits, "it has ipFamilyPolicy {policy} and ipFamilies {families}");
    Ok(())
}

/// Checks that the pod of `helm test` opts in, looks at its certificate, and ends on its own.
fn check_test_pod(pod: &Value) -> Result<()> {
    check_restricted(&pod["spec"])?;
    let annotations = &pod["metadata"]["annotations"];
    ensure!(annotations["helm.sh/hook"] == "test", "helm does not run it as a test");
    ensure!(annotations[keys::INJECT] == "true", "it does not opt in");
    ensure!(
        annotations[keys::MOUNT_PATH] == pod_layout::TLS_DIR,
        "it mounts its certificate at {}, but looks for it in {}",
        annotations[keys::MOUNT_PATH],
        pod_layout::TLS_DIR
    );
    let container = &pod["spec"]["containers"][0];
    ensure!(
        container["command"] == json!([pod_layout::FETCH_BINARY, "wait"]),
        "it runs {}",
        container["command"]
    );
    ensure!(pod["spec"]["activeDeadlineSeconds"].is_u64(), "it has no deadline");
    Ok(())
}

fn check_rolling_update(deployment: &Value) -> Result<()> {
    let spec = &deployment["spec"];
    let pod = &spec["template"]["spec"];
    // On the network of the host, the old pod ends first, because two pods cannot use the same port of a node.
    // Otherwise the new pod starts first.
    let (surge, unavailable) = if pod["hostNetwork"] == true { (0, 1) } else { (1, 0) };
    let update = &spec["strategy"]["rollingUpdate"];
    ensure!(
        update["maxSurge"] == surge && update["maxUnavailable"] == unavailable,
        "its update strategy is {update}"
    );
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

/// Checks that one Service and one PodDisruptionBudget select the pods, and that the Service's ports exist.
fn check_selectors(manifest: &Manifest, deployment: &Value, set: &ValueSet) -> Result<()> {
    let template = &deployment["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    ensure!(
        selects(&deployment["spec"]["selector"]["matchLabels"], labels),
        "it does not select its own pods"
    );
    let budgets = manifest
        .of_kind("PodDisruptionBudget")
        .filter(|budget| selects(&budget["spec"]["selector"]["matchLabels"], labels));
    let component = deployment["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or("?");
    let has_budget = !set.arguments.iter().any(|value| {
        value.starts_with(&format!("{component}="))
            && value.contains(r#""podDisruptionBudget":{"enabled":false}"#)
    });
    ensure!(
        budgets.count() == usize::from(has_budget),
        "not exactly one PodDisruptionBudget selects its pods"
    );
    let services: Vec<_> =
        manifest.of_kind("Service").filter(|service| selects(&service["spec"]["selector"], labels)).collect();
    let [service] = services.as_slice() else { bail!("not exactly one Service selects its pods") };
    for port in items(&service["spec"]["ports"]) {
        let found = items(&template["spec"]["containers"])
            .iter()
            .flat_map(|container| items(&container["ports"]))
            .any(|container_port| container_port["name"] == port["targetPort"]);
        ensure!(found, "{} has a port that is open in none of the containers: {port}", title(service));
    }
    Ok(())
}

fn check_webhooks(manifest: &Manifest, configuration: &Value, set: &ValueSet) -> Result<()> {
    let policy = |value: &str| {
        if set.mentions(&format!(r#""{value}":"Ignore""#)) { "Ignore" } else { "Fail" }
    };
    let policies = [
        ("pods.certmint.dev", policy("failurePolicy")),
        ("running-pods.certmint.dev", "Ignore"),
        ("workloads.certmint.dev", policy("workloadFailurePolicy")),
        ("workload-changes.certmint.dev", "Ignore"),
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
        ensure!(client["caBundle"].is_null(), "only the controller may set the caBundle: {client}");
        let service = client["service"]["name"].as_str().unwrap_or("?");
        let service = manifest.object("Service", service)?;
        let has_port =
            items(&service["spec"]["ports"]).iter().any(|port| port["port"] == client["service"]["port"]);
        ensure!(has_port, "{} has no port {}", title(service), client["service"]["port"]);
        ensure!(webhook["sideEffects"] == "None", "{webhook} has side effects");
        ensure!(
            webhook["timeoutSeconds"].as_u64().is_some_and(|seconds| seconds <= 5),
            "{webhook} has a long timeout"
        );
        let selected = &webhook["namespaceSelector"]["matchExpressions"];
        let named = |operator, values| json!({ "key": "kubernetes.io/metadata.name", "operator": operator, "values": values });
        let exists = json!({ "key": "kubernetes.io/metadata.name", "operator": "Exists" });
        let blocks_changes = webhook["name"] != "workload-changes.certmint.dev";
        let excluded = named("NotIn", json!(["kube-system", NAMESPACE]));
        let mut expected = vec![if blocks_changes { excluded } else { exists }];
        expected.extend((!set.namespaces.is_empty()).then(|| named("In", json!(set.namespaces))));
        // The expressions of a user come after these, and can only exclude more namespaces.
        ensure!(items(selected).starts_with(&expected), "{webhook} selects namespaces by {selected}");
        let first = &webhook["matchConditions"][0]["name"];
        ensure!(
            *first == "certmint-keys",
            "{webhook} matches foreign objects: its first condition is {first}"
        );
        let owner_condition =
            items(&webhook["matchConditions"]).iter().find(|condition| condition["name"] == "not-controlled");
        // The entry for created pods has no condition on owners, because it also matches pods that an object controls.
        ensure!(
            owner_condition.is_some() == (webhook["name"] != "pods.certmint.dev"),
            "{webhook} has the wrong condition on owners"
        );
        owner_condition.map_or(Ok(()), |condition| check_owner_condition(&condition["expression"]))?;
    }
    Ok(())
}

/// Checks that the condition excludes exactly the objects for which `controlling_workload` returns a controlling
/// workload.
fn check_owner_condition(expression: &Value) -> Result<()> {
    let expression = expression.as_str().unwrap_or_default();
    let is_pair = |text: &&str| text.contains(" of ") && *text != " of ";
    let listed: BTreeSet<&str> = expression.split('\'').filter(is_pair).collect();
    let pairs = WorkloadKind::ALL.into_iter().flat_map(|kind| WorkloadKind::ALL.map(|owner| (kind, owner)));
    let decided: BTreeSet<String> = pairs
        .filter(|(kind, owner)| controlling_workload(*kind, owner.api_version(), owner.as_str()).is_some())
        .map(|(kind, owner)| format!("{kind} of {} {owner}", owner.api_version()))
        .collect();
    ensure!(
        listed == decided.iter().map(String::as_str).collect(),
        "the condition leaves {listed:?} to their owners, but the programs leave {decided:?}"
    );
    Ok(())
}
