//! The scenario `admission-controllers` changes pods with other admission controllers: an image mirror, LimitRanges,
//! quotas, and users that a platform assigns. Each of them has a namespace of its own.
//!
//! It asserts that their changes to the certmint-fetch container stay, except those that would expose the key, and
//! that injected pods satisfy their rules. Except for users, it needs only dry runs.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::wait_for_injected_pods;
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::namespace_policies::{create_policy, delete_policies, each_container};
use super::pod_case::{APP, PodCase, container, pod_case};
use super::{KEY, KubectlResult, create, require_mutating_policies};

/// Namespace whose images come from a mirror and are always pulled.
const MIRRORED: &str = "admission-mirrored";
/// Namespace with a LimitRange that has a minimum, a ratio and defaults.
const LIMITED: &str = "admission-limited";
/// Namespace with a LimitRange that has only a minimum.
const MINIMAL: &str = "admission-minimal";
/// Namespace with a quota.
const QUOTA: &str = "admission-quota";
/// Namespace with its own range of users, as every namespace of OpenShift has.
const OWN_USERS: &str = "admission-own-users";
/// Namespace without a range of users.
const NO_USERS: &str = "admission-no-users";
/// First user of the namespace [`OWN_USERS`].
const FIRST_USER: i64 = 1_000_650_000;

const MIRROR: &str = "mirror.example.com/";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    require_mutating_policies(cluster)?;
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let result = assert_mirrored(cluster, &image)
        .and_then(|()| assert_limited(cluster, &image))
        .and_then(|()| assert_minimum(cluster, &image))
        .and_then(|()| assert_quota(cluster, &image))
        .and_then(|()| assert_users(cluster, &image));
    // The scenario deletes the policies even after a failure.
    delete_policies(&cluster.kubectl())?;
    result
}

/// Asserts which changes of a policy stay in the certmint-fetch container. The policy sets an image mirror, the pull
/// policy `Always` and the user root on every container.
fn assert_mirrored(cluster: &Cluster, image: &str) -> Result<()> {
    let kubectl = create_namespace(cluster, MIRRORED, &[])?;
    step("a policy sets a mirror, the pull policy and the user root on every container", || {
        let expression = each_container(&format!(
            r#"name: c.name, imagePullPolicy: "Always",
               image: c.image.startsWith("{MIRROR}") ? c.image : "{MIRROR}" + c.image,
               securityContext: Object.spec.LIST.securityContext{{runAsUser: 0}}"#
        ));
        create_policy(&kubectl, MIRRORED, &expression)?;
        wait_for_mutation(&kubectl, image, |pod| pod["imagePullPolicy"] == "Always")
    })?;
    step("the certmint-fetch container keeps mirror and pull policy, but not the user", || {
        let pod = create_accepted(&kubectl, &pod_case("mirrored"), image)?;
        for container in containers(&pod) {
            let image = container["image"].as_str().unwrap_or_default();
            ensure!(
                container["imagePullPolicy"] == "Always" && image.starts_with(MIRROR),
                "a container does not have mirror and pull policy: {container}"
            );
        }
        let fetch_container = fetch_container(&pod)?;
        let user = &fetch_container["securityContext"]["runAsUser"];
        ensure!(user == 65532, "the certmint-fetch container runs as user {user}");
        ensure!(
            fetch_container["restartPolicy"] == "Always",
            "the certmint-fetch container is not a native sidecar: {fetch_container}"
        );
        Ok(())
    })
}

/// Asserts that injected pods satisfy a LimitRange with a minimum, a ratio and defaults. If the
/// container `app` sets resources, the pod needs the annotation `certmint.dev/resources`.
fn assert_limited(cluster: &Cluster, image: &str) -> Result<()> {
    let kubectl = create_namespace(cluster, LIMITED, &[])?;
    kubectl.apply(&limit_range(&json!({
        "type": "Container",
        "min": { "cpu": "50m", "memory": "64Mi" },
        "maxLimitRequestRatio": { "cpu": "5", "memory": "2" },
        "default": { "cpu": "500m", "memory": "256Mi" },
        "defaultRequest": { "cpu": "100m", "memory": "128Mi" },
    })))?;
    step(
        "the certmint-fetch container gets the resources that a LimitRange gives the container app",
        || {
            wait_for_limit_range(&kubectl, &pod_case("resources-from-limit-range"), image)?;
            let pod = create_accepted(&kubectl, &pod_case("resources-from-limit-range"), image)?;
            let fetch_resources = &fetch_container(&pod)?["resources"];
            let app_resources = &pod["spec"]["containers"][0]["resources"];
            ensure!(
                fetch_resources == app_resources,
                "the certmint-fetch container has {fetch_resources}, and the container app has {app_resources}"
            );
            Ok(())
        },
    )?;
    let with_resources = || {
        let resources = json!({
            "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "cpu": "200m", "memory": "128Mi" },
        });
        pod_case("own-resources").containers(&[container("app", json!({ "resources": resources }))])
    };
    step(
        "when the container app sets its own resources, the API server says what is below the minimum",
        || {
            let result = dry_run(&kubectl, &with_resources(), image)?;
            let printed = result.stderr_lines.join("\n");
            let expected = "minimum cpu usage per Container is 50m, but request is 5m";
            ensure!(!result.accepted && printed.contains(expected), "kubectl printed {printed:?}");
            Ok(())
        },
    )?;
    step("the annotation certmint.dev/resources sets enough resources, or none", || {
        let enough = "requests.cpu=50m,requests.memory=64Mi,limits.cpu=100m,limits.memory=64Mi";
        create_accepted(&kubectl, &with_resources().annotated("resources", enough), image)?;
        create_accepted(&kubectl, &with_resources().annotated("resources", "none"), image).map(drop)
    })
}

/// Asserts that injected pods satisfy a LimitRange that has only a minimum.
fn assert_minimum(cluster: &Cluster, image: &str) -> Result<()> {
    let kubectl = create_namespace(cluster, MINIMAL, &[])?;
    kubectl.apply(&limit_range(&json!({ "type": "Container", "min": { "memory": "64Mi" } })))?;
    step(
        "when the container app sets no resources, the certmint-fetch container requests the minimum",
        || {
            wait_for_limit_range(&kubectl, &pod_case("minimum-memory"), image)?;
            let pod = create_accepted(&kubectl, &pod_case("minimum-memory"), image)?;
            let resources = &fetch_container(&pod)?["resources"];
            let expected = json!({ "requests": { "cpu": "5m", "memory": "64Mi" } });
            ensure!(*resources == expected, "the certmint-fetch container has the resources {resources}");
            Ok(())
        },
    )
}

/// Asserts that injected pods satisfy a quota on CPU, memory and ephemeral storage.
fn assert_quota(cluster: &Cluster, image: &str) -> Result<()> {
    let kubectl = create_namespace(cluster, QUOTA, &[])?;
    let kinds = ["requests", "limits"].into_iter();
    let hard: serde_json::Map<String, Value> = kinds
        .flat_map(|kind| ["cpu", "memory", "ephemeral-storage"].map(|name| format!("{kind}.{name}")))
        .map(|name| (name, "10Gi".into()))
        .collect();
    step("a quota on all resources accepts an injected pod whose container app sets all of them", || {
        kubectl.apply(
            &json!({
                "apiVersion": "v1", "kind": "ResourceQuota",
                "metadata": { "name": "all" }, "spec": { "hard": hard },
            })
            .to_string(),
        )?;
        let quantities = json!({ "cpu": "20m", "memory": "32Mi", "ephemeral-storage": "32Mi" });
        let app = container("app", json!({ "resources": { "requests": quantities, "limits": quantities } }));
        let pod = pod_case("with-resources").containers(&[app]);
        kubectl.wait_for("resourcequota/all", "to be active", DEFAULT_TIMEOUT, |quota| {
            quota["status"]["hard"].as_object().map(drop)
        })?;
        let result = dry_run(&kubectl, &pod_case("without-resources"), image)?;
        ensure!(!result.accepted, "the quota accepted a pod without resources");
        create_accepted(&kubectl, &pod, image).map(drop)
    })
}

/// Asserts who can read the key on a platform that assigns a user to the containers of a namespace.
fn assert_users(cluster: &Cluster, image: &str) -> Result<()> {
    let restricted = ["pod-security.kubernetes.io/enforce=restricted"];
    let kubectl = create_namespace(cluster, OWN_USERS, &restricted)?;
    let elsewhere = create_namespace(cluster, NO_USERS, &restricted)?;
    step("Certmint leaves the user to the platform, and a policy assigns one", || {
        let values = [installation::ALLOW_SHORT_LIFETIMES, &["fetch.runAsUser=unset"]].concat();
        installation::install_and_wait(cluster, &values)?;
        let expression = each_container(&format!(
            "name: c.name, securityContext: Object.spec.LIST.securityContext{{runAsUser: c.?securityContext.?runAsUser.orValue({FIRST_USER})}}"
        ));
        create_policy(&kubectl, OWN_USERS, &expression)?;
        wait_for_mutation(&kubectl, image, |app| app["securityContext"]["runAsUser"] == FIRST_USER)
    })?;
    step("all containers run as the assigned user, and only this user can read the key", || {
        kubectl.apply(&restricted_pod(OWN_USERS, image).to_string())?;
        let pods = wait_for_injected_pods(&kubectl, APP)?;
        let pod = pods.first().context("there is no pod")?;
        let users: Vec<&Value> =
            containers(pod).map(|container| &container["securityContext"]["runAsUser"]).collect();
        ensure!(users.iter().all(|user| **user == FIRST_USER), "the containers run as the users {users:?}");
        assert_key_mode(&kubectl, OWN_USERS, &format!("400 {FIRST_USER}"))
    })?;
    step("without an assigned user, the certmint-fetch container runs as the user of its image", || {
        elsewhere.apply(&restricted_pod(NO_USERS, image).to_string())?;
        wait_for_injected_pods(&elsewhere, APP)?;
        assert_key_mode(&elsewhere, NO_USERS, "444 65532")
    })
}

/// Asserts that the application can read the key, and that the file has this mode and owner.
fn assert_key_mode(kubectl: &Kubectl<'_>, pod: &str, expected: &str) -> Result<()> {
    let program = format!("grep -q 'PRIVATE KEY' {KEY} && stat -Lc '%a %u' {KEY}");
    let printed = kubectl.exec(pod, "app", &["sh", "-c", &program])?;
    ensure!(printed.trim() == expected, "mode and owner of the key are {printed}, expected {expected}");
    Ok(())
}

/// Returns a pod that the Pod Security Standard `restricted` admits, and that does not set a user.
fn restricted_pod(name: &'static str, image: &str) -> Value {
    let app = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    pod_case(name)
        .spec(
            "securityContext",
            json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } }),
        )
        .containers(&[container("app", json!({ "securityContext": app }))])
        .manifest(image)
}

fn dry_run(kubectl: &Kubectl<'_>, case: &PodCase, image: &str) -> Result<KubectlResult> {
    create(kubectl, &["--dry-run=server", "--output=json"], &case.manifest(image).to_string())
}

/// Creates a pod in a dry run, and returns the pod that the API server would store.
fn create_accepted(kubectl: &Kubectl<'_>, case: &PodCase, image: &str) -> Result<Value> {
    let result = dry_run(kubectl, case, image)?;
    ensure!(result.accepted, "the pod {} was rejected: {}", case.name, result.stderr_lines.join("\n"));
    Ok(serde_json::from_str(&result.stdout)?)
}

/// Waits until the API server applies the namespace's LimitRange to new pods.
fn wait_for_limit_range(kubectl: &Kubectl<'_>, case: &PodCase, image: &str) -> Result<()> {
    wait::until("the LimitRange to set the resources of a new pod", DEFAULT_TIMEOUT, || {
        let result = dry_run(kubectl, case, image)?;
        let applied = result.stdout.contains("kubernetes.io/limit-ranger");
        Ok(if applied { Check::Passed(()) } else { Check::NotYet(result.stderr_lines.join("\n")) })
    })
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().filter_map(|list| pod["spec"][list].as_array()).flatten()
}

fn fetch_container(pod: &Value) -> Result<&Value> {
    containers(pod)
        .find(|container| container["name"] == "certmint")
        .context("the pod has no certmint-fetch container")
}

fn limit_range(limit: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "LimitRange",
        "metadata": { "name": "limits" }, "spec": { "limits": [limit] },
    })
    .to_string()
}

/// Waits until the API server applies a policy to the container app of new pods.
fn wait_for_mutation(kubectl: &Kubectl<'_>, image: &str, is_mutated: impl Fn(&Value) -> bool) -> Result<()> {
    let trial = restricted_pod("trial", image).to_string();
    wait::until("the policy to change a pod in a dry run", DEFAULT_TIMEOUT, || {
        let result = create(kubectl, &["--dry-run=server", "--output=json"], &trial)?;
        let pod: Value = serde_json::from_str(&result.stdout).unwrap_or_default();
        let is_mutated = is_mutated(&pod["spec"]["containers"][0]);
        Ok(if is_mutated { Check::Passed(()) } else { Check::NotYet(result.stderr_lines.join("\n")) })
    })
}
