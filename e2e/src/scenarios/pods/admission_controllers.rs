//! Other admission controllers: what they change in the injected container stays, and what they demand of pods holds
//! for injected pods too. Each has a namespace of its own.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::await_pods;
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::shape::{Shape, container, shape};
use super::{Heard, create};
use crate::story::PATIENCE;

/// What our policies are labelled with: they are no namespace's, so they do not go with ours.
const LABEL: (&str, &str) = ("certmint-e2e", "admission-controllers");
/// The namespace in which every image comes from a mirror, and is always pulled.
const MIRRORED: &str = "admission-mirrored";
/// The namespaces with a LimitRange or a quota.
const LIMITED: &str = "admission-limited";
const MINIMAL: &str = "admission-minimal";
const QUOTA: &str = "admission-quota";
/// The namespace with users of its own, as every namespace of OpenShift has, and one without.
const OWN_USERS: &str = "admission-own-users";
const NO_USERS: &str = "admission-no-users";
/// The first user of such a namespace.
const FIRST_USER: i64 = 1_000_650_000;

const MIRROR: &str = "mirror.example.com/";
const KEY: &str = "/var/run/secrets/certmint.dev/tls.key";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    cluster.kubectl().require_resource(
        "admissionregistration.k8s.io/v1",
        "mutatingadmissionpolicies",
        "1.36",
    )?;
    installation::install(cluster, installation::SHORT_LIVED)?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let outcome = mirrored(cluster, &image)
        .and_then(|()| limited(cluster, &image))
        .and_then(|()| minimal(cluster, &image))
        .and_then(|()| quota(cluster, &image))
        .and_then(|()| users(cluster, &image));
    let selector = format!("--selector={}={}", LABEL.0, LABEL.1);
    for kind in ["mutatingadmissionpolicybindings", "mutatingadmissionpolicies"] {
        cluster.kubectl().delete(&[kind, &selector])?;
    }
    outcome
}

/// A mirror, AlwaysPullImages, and somebody who makes every container root, which ours is protected from.
fn mirrored(cluster: &Cluster, image: &str) -> Result<()> {
    let kubectl = namespace(cluster, MIRRORED, &[])?;
    step("every image comes from a mirror, and is always pulled", || {
        let expression = each_container(&format!(
            r#"name: c.name, imagePullPolicy: "Always",
               image: c.image.startsWith("{MIRROR}") ? c.image : "{MIRROR}" + c.image,
               securityContext: Object.spec.LIST.securityContext{{runAsUser: 0}}"#
        ));
        mutate(&kubectl, MIRRORED, &expression)?;
        wait_for_mutation(&kubectl, image, |pod| pod["imagePullPolicy"] == "Always")
    })?;
    step("so is ours, which stays what else it was", || {
        let pod = accepted(&kubectl, &shape("mirrored"), image)?;
        for container in containers(&pod) {
            let image = container["image"].as_str().unwrap_or_default();
            ensure!(
                container["imagePullPolicy"] == "Always" && image.starts_with(MIRROR),
                "it is {container}"
            );
        }
        let ours = ours(&pod)?;
        let user = &ours["securityContext"]["runAsUser"];
        ensure!(user == 65532, "our container runs as {user}");
        ensure!(ours["restartPolicy"] == "Always", "our container is no sidecar: {ours}");
        Ok(())
    })
}

/// A LimitRange with a minimum, a ratio and defaults.
fn limited(cluster: &Cluster, image: &str) -> Result<()> {
    let kubectl = namespace(cluster, LIMITED, &[])?;
    kubectl.apply(&limit_range(&json!({
        "type": "Container",
        "min": { "cpu": "50m", "memory": "64Mi" },
        "maxLimitRequestRatio": { "cpu": "5", "memory": "2" },
        "default": { "cpu": "500m", "memory": "256Mi" },
        "defaultRequest": { "cpu": "100m", "memory": "128Mi" },
    })))?;
    step("where a LimitRange gives the app its resources, ours gets the same", || {
        wait::until("a pod to be given resources", PATIENCE, || {
            let heard = dry_run(&kubectl, &shape("given"), image)?;
            let given = heard.printed.contains("kubernetes.io/limit-ranger");
            Ok(if given { Observed::Yes(()) } else { Observed::NotYet(heard.told.join("\n")) })
        })?;
        let pod = accepted(&kubectl, &shape("given"), image)?;
        let (ours, app) = (&ours(&pod)?["resources"], &pod["spec"]["containers"][0]["resources"]);
        ensure!(ours == app, "ours has {ours}, and the app {app}");
        Ok(())
    })?;
    let asking = || {
        let resources = json!({
            "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "cpu": "200m", "memory": "128Mi" },
        });
        shape("asking").containers(&[container("app", json!({ "resources": resources }))])
    };
    step("where the app asks for itself, the API server says what is too little", || {
        let heard = dry_run(&kubectl, &asking(), image)?;
        let told = heard.told.join("\n");
        let expected = "minimum cpu usage per Container is 50m, but request is 5m";
        ensure!(!heard.accepted && told.contains(expected), "kubectl told {told:?}");
        Ok(())
    })?;
    step("and the annotation asks for enough", || {
        let enough = "requests.cpu=50m,requests.memory=64Mi,limits.cpu=100m,limits.memory=64Mi";
        accepted(&kubectl, &asking().annotated("resources", enough), image)?;
        accepted(&kubectl, &asking().annotated("resources", "none"), image).map(drop)
    })
}

/// A LimitRange with a minimum and nothing else.
fn minimal(cluster: &Cluster, image: &str) -> Result<()> {
    let kubectl = namespace(cluster, MINIMAL, &[])?;
    kubectl.apply(&limit_range(&json!({ "type": "Container", "min": { "memory": "64Mi" } })))?;
    step("a minimum is all that ours asks for where the app asks for nothing", || {
        wait::until("a pod to be given the minimum", PATIENCE, || {
            let heard = dry_run(&kubectl, &shape("least"), image)?;
            let given = heard.printed.contains("kubernetes.io/limit-ranger");
            Ok(if given { Observed::Yes(()) } else { Observed::NotYet(heard.told.join("\n")) })
        })?;
        let pod = accepted(&kubectl, &shape("least"), image)?;
        let resources = &ours(&pod)?["resources"];
        let expected = json!({ "requests": { "cpu": "5m", "memory": "64Mi" } });
        ensure!(*resources == expected, "ours has {resources}");
        Ok(())
    })
}

/// A quota on everything that a container can be asked to say.
fn quota(cluster: &Cluster, image: &str) -> Result<()> {
    let kubectl = namespace(cluster, QUOTA, &[])?;
    let kinds = ["requests", "limits"].into_iter();
    let hard: serde_json::Map<String, Value> = kinds
        .flat_map(|kind| ["cpu", "memory", "ephemeral-storage"].map(|name| format!("{kind}.{name}")))
        .map(|name| (name, "10Gi".into()))
        .collect();
    step("a quota on all resources takes an injected pod whose app says them all", || {
        kubectl.apply(
            &json!({
                "apiVersion": "v1", "kind": "ResourceQuota",
                "metadata": { "name": "all" }, "spec": { "hard": hard },
            })
            .to_string(),
        )?;
        let all = json!({ "cpu": "20m", "memory": "32Mi", "ephemeral-storage": "32Mi" });
        let app = container("app", json!({ "resources": { "requests": all, "limits": all } }));
        let pod = shape("counted").containers(&[app]);
        kubectl.until("resourcequota/all", "to be counted", PATIENCE, |quota| {
            quota["status"]["hard"].as_object().map(drop)
        })?;
        let heard = dry_run(&kubectl, &shape("uncounted"), image)?;
        ensure!(!heard.accepted, "the quota asks for nothing");
        accepted(&kubectl, &pod, image).map(drop)
    })
}

/// A platform that gives every namespace its own users.
fn users(cluster: &Cluster, image: &str) -> Result<()> {
    let restricted = ["pod-security.kubernetes.io/enforce=restricted"];
    let kubectl = namespace(cluster, OWN_USERS, &restricted)?;
    let elsewhere = namespace(cluster, NO_USERS, &restricted)?;
    step("users are left to the platform", || {
        let values = [installation::SHORT_LIVED, &["fetch.runAsUser=unset"]].concat();
        installation::install(cluster, &values)?;
        let expression = each_container(&format!(
            "name: c.name, securityContext: Object.spec.LIST.securityContext{{runAsUser: c.?securityContext.?runAsUser.orValue({FIRST_USER})}}"
        ));
        mutate(&kubectl, OWN_USERS, &expression)?;
        wait_for_mutation(&kubectl, image, |app| app["securityContext"]["runAsUser"] == FIRST_USER)
    })?;
    step("its user is ours, and alone reads the key", || {
        kubectl.apply(&restricted_pod(OWN_USERS, image).to_string())?;
        let pods = await_pods(&kubectl, super::shape::APP, true)?;
        let pod = pods.first().context("there is no pod")?;
        let users: Vec<&Value> =
            containers(pod).map(|container| &container["securityContext"]["runAsUser"]).collect();
        ensure!(users.iter().all(|user| **user == FIRST_USER), "the containers run as {users:?}");
        reads_key(&kubectl, OWN_USERS, &format!("400 {FIRST_USER}"))
    })?;
    step("without a platform's user, ours is the image's", || {
        elsewhere.apply(&restricted_pod(NO_USERS, image).to_string())?;
        await_pods(&elsewhere, super::shape::APP, true)?;
        reads_key(&elsewhere, NO_USERS, "444 65532")
    })
}

fn reads_key(kubectl: &Kubectl<'_>, pod: &str, expected: &str) -> Result<()> {
    let program = format!("grep -q 'PRIVATE KEY' {KEY} && stat -Lc '%a %u' {KEY}");
    let printed = kubectl.exec(pod, "app", &["sh", "-c", &program])?;
    ensure!(printed.trim() == expected, "the key has mode and owner {printed}");
    Ok(())
}

/// A pod as Pod Security `restricted` admits it, whose user is its image's.
fn restricted_pod(name: &'static str, image: &str) -> Value {
    let app = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    shape(name)
        .spec(
            "securityContext",
            json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } }),
        )
        .containers(&[container("app", json!({ "securityContext": app }))])
        .manifest(image)
}

fn dry_run(kubectl: &Kubectl<'_>, shape: &Shape, image: &str) -> Result<Heard> {
    create(kubectl, &["--dry-run=server", "--output=json"], &shape.manifest(image).to_string())
}

/// The pod as the API server would store it.
fn accepted(kubectl: &Kubectl<'_>, shape: &Shape, image: &str) -> Result<Value> {
    let heard = dry_run(kubectl, shape, image)?;
    ensure!(heard.accepted, "{} is refused: {}", shape.name, heard.told.join("\n"));
    Ok(serde_json::from_str(&heard.printed)?)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().filter_map(|list| pod["spec"][list].as_array()).flatten()
}

fn ours(pod: &Value) -> Result<&Value> {
    containers(pod)
        .find(|container| container["name"] == "certmint")
        .context("there is no container certmint")
}

fn limit_range(limit: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "LimitRange",
        "metadata": { "name": "limits" }, "spec": { "limits": [limit] },
    })
    .to_string()
}

/// Every container with these fields, in CEL; `LIST` stands for the list that it is in.
fn each_container(fields: &str) -> String {
    let [init, apps] = ["initContainers", "containers"].map(|list| {
        let fields = fields.replace("LIST", list);
        format!("{list}: object.spec.?{list}.orValue([]).map(c, Object.spec.{list}{{{fields}}})")
    });
    format!("Object{{spec: Object.spec{{{init}, {apps}}}}}")
}

/// A mutation of all pods of one namespace, by a policy of the same name.
fn mutate(kubectl: &Kubectl<'_>, name: &str, expression: &str) -> Result<()> {
    let metadata = json!({ "name": name, "labels": { LABEL.0: LABEL.1 } });
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }] },
            "mutations": [{
                "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": expression },
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": {
            "policyName": name,
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } },
        },
    });
    kubectl.apply(&policy.to_string())?;
    kubectl.apply(&binding.to_string()).map(drop)
}

/// Waits until the API server applies a mutation to the app's container.
fn wait_for_mutation(kubectl: &Kubectl<'_>, image: &str, is_mutated: impl Fn(&Value) -> bool) -> Result<()> {
    let trial = restricted_pod("trial", image).to_string();
    wait::until("the mutation in a dry run", PATIENCE, || {
        let heard = create(kubectl, &["--dry-run=server", "--output=json"], &trial)?;
        let pod: Value = serde_json::from_str(&heard.printed).unwrap_or_default();
        let is_mutated = is_mutated(&pod["spec"]["containers"][0]);
        Ok(if is_mutated { Observed::Yes(()) } else { Observed::NotYet(heard.told.join("\n")) })
    })
}
