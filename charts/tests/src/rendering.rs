//! What must hold of the rendered objects, whatever the values.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_contract::ownership::controlling_workload;
use certmint_contract::{Policy, WorkloadKind, keys, pod_layout};
use serde_json::{Value, json};

use crate::manifest::{Manifest, items, selects, title};
use crate::value_sets::{DEFAULTS, ValueSet};
use crate::{Chart, NAMESPACE, monitoring, privileges};

/// Kinds that have no namespace.
const CLUSTER_SCOPED: [&str; 3] = ["ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration"];

pub(crate) fn check(manifest: &Manifest, set: &ValueSet) -> Result<()> {
    for object in manifest.objects() {
        lies_in_its_place(object, set).with_context(|| title(object))?;
    }
    for deployment in manifest.of_kind("Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        restricted(pod)
            .and_then(|()| is_on_the_network_told(deployment, set))
            .and_then(|()| is_on_nodes_for_its_image(pod, set))
            .and_then(|()| rolls_without_a_gap(deployment))
            .and_then(|()| is_reached(manifest, deployment, set))
            .with_context(|| title(deployment))?;
    }
    let tests: Vec<_> = manifest.of_kind("Pod").collect();
    let [test] = tests.as_slice() else { bail!("{} pods are rendered", tests.len()) };
    proves_an_injection(test)
        .and_then(|()| is_on_nodes_for_its_image(&test["spec"], &DEFAULTS))
        .with_context(|| title(test))?;
    manifest
        .of_kind("Service")
        .try_for_each(|service| is_of_the_families_told(service, set).with_context(|| title(service)))?;
    privileges::check(manifest, set)?;
    monitoring::check(manifest, set)?;
    manifest.of_kind("MutatingWebhookConfiguration").try_for_each(|object| webhooks(manifest, object, set))
}

/// The chart's default policy says what the code does without one.
pub(crate) fn policy_is_the_default(chart: &Chart) -> Result<()> {
    let manifest = chart.render(&[])?;
    let policy = &manifest.object("ConfigMap", "certmint-policy")?["data"]["policy.json"];
    let policy = Policy::from_json(policy.as_str().unwrap_or_default().as_bytes())?;
    // Where no pod is ever injected.
    let excluded_namespaces = ["kube-system", NAMESPACE].iter().flat_map(|name| name.parse()).collect();
    let expected = Policy { excluded_namespaces, ..Policy::default() };
    ensure!(policy == expected, "the chart's policy {policy:?} is not the default {expected:?}");
    Ok(())
}

/// Where namespaces have users of their own, the injected container's is left to the platform, unless somebody says other.
pub(crate) fn users_are_left_to_openshift(chart: &Chart) -> Result<()> {
    for (api, value, expected) in [
        ("v1", "auto", "set"),
        ("security.openshift.io/v1", "auto", "unset"),
        ("security.openshift.io/v1", "set", "set"),
        ("v1", "unset", "unset"),
    ] {
        let rendered = chart.template_for(api, &[&format!("fetch.runAsUser=\"{value}\"")])?;
        let expected = format!("- --fetch-run-as-user={expected}\n");
        ensure!(rendered.contains(&expected), "with {api} and {value}, the webhook is not told {expected}");
    }
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

/// The Pod Security Standard "restricted", and more: a read-only root, resources.
fn restricted(pod: &Value) -> Result<()> {
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
        for (field, demanded) in [
            ("allowPrivilegeEscalation", json!(false)),
            ("readOnlyRootFilesystem", json!(true)),
            ("runAsNonRoot", json!(true)),
            ("capabilities", json!({ "drop": ["ALL"] })),
        ] {
            ensure!(context[field] == demanded, "its container has {field} {}", context[field]);
        }
        for quantity in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            ensure!(container["resources"].pointer(quantity).is_some(), "its container has no {quantity}");
        }
    }
    Ok(())
}

/// Only the webhook is on its host's network, and only where that is asked for.
fn is_on_the_network_told(deployment: &Value, set: &ValueSet) -> Result<()> {
    let webhook = deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "webhook";
    let pod = &deployment["spec"]["template"]["spec"];
    let (network, names) = (&pod["hostNetwork"], &pod["dnsPolicy"]);
    let fits = if webhook && set.mentions(r#""hostNetwork":true"#) {
        *network == true && *names == "ClusterFirstWithHostNet"
    } else {
        network.is_null() && names.is_null()
    };
    ensure!(fits, "it has hostNetwork {network} with dnsPolicy {names}");
    Ok(())
}

/// The images are made for one operating system and one architecture; whoever says otherwise is believed.
fn is_on_nodes_for_its_image(pod: &Value, set: &ValueSet) -> Result<()> {
    let selector = &pod["nodeSelector"];
    ensure!(selector["kubernetes.io/os"] == "linux", "it may run on nodes of any system: {selector}");
    let (architecture, told) =
        (&selector["kubernetes.io/arch"], set.mentions(r#""kubernetes.io/arch":null"#));
    let fits = if told { architecture.is_null() } else { *architecture == "amd64" };
    ensure!(fits, "it runs on nodes of the architecture {architecture}");
    Ok(())
}

/// Its addresses are left to the cluster unless a family is asked for.
fn is_of_the_families_told(service: &Value, set: &ValueSet) -> Result<()> {
    let told = set.mentions("service=");
    let (policy, families) = (&service["spec"]["ipFamilyPolicy"], &service["spec"]["ipFamilies"]);
    let fits = if told {
        *policy == "RequireDualStack" && *families == json!(["IPv6", "IPv4"])
    } else {
        policy.is_null() && families.is_null()
    };
    ensure!(fits, "it has ipFamilyPolicy {policy} and ipFamilies {families}");
    Ok(())
}

/// The pod of `helm test` opts in, looks where its certificate is mounted, and ends by itself.
fn proves_an_injection(pod: &Value) -> Result<()> {
    restricted(&pod["spec"])?;
    let annotations = &pod["metadata"]["annotations"];
    ensure!(annotations["helm.sh/hook"] == "test", "helm does not run it as a test");
    ensure!(annotations[keys::INJECT] == "true", "it does not opt in");
    ensure!(
        annotations[keys::MOUNT_PATH] == pod_layout::TLS_DIR,
        "it mounts its certificate at {}, and looks for it in {}",
        annotations[keys::MOUNT_PATH],
        pod_layout::TLS_DIR
    );
    let container = &pod["spec"]["containers"][0];
    ensure!(
        container["command"] == json!([pod_layout::FETCH_BINARY, "wait"]),
        "it runs {}",
        container["command"]
    );
    ensure!(pod["spec"]["activeDeadlineSeconds"].is_u64(), "it may run for ever");
    Ok(())
}

fn rolls_without_a_gap(deployment: &Value) -> Result<()> {
    let spec = &deployment["spec"];
    let pod = &spec["template"]["spec"];
    // On its host's network a new pod has to wait for an old one's port; otherwise it comes first.
    let (surge, unavailable) = if pod["hostNetwork"] == true { (0, 1) } else { (1, 0) };
    let update = &spec["strategy"]["rollingUpdate"];
    ensure!(
        update["maxSurge"] == surge && update["maxUnavailable"] == unavailable,
        "it is updated by {update}"
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

/// One Service and one PodDisruptionBudget select its pods, and the Service's ports exist.
fn is_reached(manifest: &Manifest, deployment: &Value, set: &ValueSet) -> Result<()> {
    let template = &deployment["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    ensure!(
        selects(&deployment["spec"]["selector"]["matchLabels"], labels),
        "it does not select its own pods"
    );
    let budgets = manifest
        .of_kind("PodDisruptionBudget")
        .filter(|b| selects(&b["spec"]["selector"]["matchLabels"], labels));
    let component = deployment["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or("?");
    let budgeted = !set.set.iter().any(|value| {
        value.starts_with(&format!("{component}="))
            && value.contains(r#""podDisruptionBudget":{"enabled":false}"#)
    });
    ensure!(budgets.count() == usize::from(budgeted), "not exactly one PodDisruptionBudget selects its pods");
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

fn webhooks(manifest: &Manifest, configuration: &Value, set: &ValueSet) -> Result<()> {
    let policy = |value: &str| {
        let open = set.set.iter().any(|set| set.contains(&format!(r#""{value}":"Ignore""#)));
        if open { "Ignore" } else { "Fail" }
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
        let selected = &webhook["namespaceSelector"]["matchExpressions"];
        let named = |operator, values| json!({ "key": "kubernetes.io/metadata.name", "operator": operator, "values": values });
        let exists = json!({ "key": "kubernetes.io/metadata.name", "operator": "Exists" });
        let holds_up = webhook["name"] != "workload-changes.certmint.dev";
        let excluded = named("NotIn", json!(["kube-system", NAMESPACE]));
        let mut expected = vec![if holds_up { excluded } else { exists }];
        expected.extend((!set.namespaces.is_empty()).then(|| named("In", json!(set.namespaces))));
        // What a user adds comes after, and can only leave out more.
        ensure!(items(selected).starts_with(&expected), "{webhook} selects namespaces by {selected}");
        let ours = &webhook["matchConditions"][0]["name"];
        ensure!(
            *ours == "certmint-keys",
            "{webhook} sees everybody's objects: its first condition is {ours}"
        );
        let own =
            items(&webhook["matchConditions"]).iter().find(|condition| condition["name"] == "not-controlled");
        // A pod that is created is asked about whoever controls it.
        ensure!(own.is_some() == (webhook["name"] != "pods.certmint.dev"), "{webhook} asks about owners");
        own.map_or(Ok(()), |condition| leaves_to_owners(&condition["expression"]))?;
    }
    Ok(())
}

/// The condition leaves to their owners exactly the objects that the webhook and the controller leave to them.
fn leaves_to_owners(expression: &Value) -> Result<()> {
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
        "the condition leaves {listed:?} to their owners, and the programs leave {decided:?}"
    );
    Ok(())
}
