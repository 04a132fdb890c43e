//! The scenario `any-pod` creates pods of many kinds, all at the same time: with other users, groups, volumes, init
//! containers, sidecars and resources.
//!
//! It asserts for each pod which user can read the key and with which file mode, the order of the init containers,
//! and the warnings that kubectl prints. It also asserts the messages for pods that the webhook rejects or does not
//! inject.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::wait_for_injected_pods;
use certmint_local_cluster::{images, installation};
use serde_json::Value;

use super::pod_case::{APP, KeyReader, PodCase, pod_case};
use super::{create, pod_cases, rejections_and_warnings};

/// Directory of the mount with the pod's own token. The API server adds this mount to containers that mount nothing
/// there.
const API_TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, APP, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let cases = pod_cases::all();

    step("kubectl prints the documented rejections and warnings", || {
        rejections_and_warnings::check(&kubectl, &image)
    })?;
    step(&format!("{} different pods are created", cases.len()), || {
        for_each_case(&cases, |case| create_case(&kubectl, case, &image))?;
        create_with_generated_name(&kubectl, &image)?;
        create_without_namespace(&kubectl, &image)
    })?;
    let pods = step("all pods start", || wait_for_injected_pods(&kubectl, APP))?;
    step("the containers of each pod can or cannot read the key as expected", || {
        for_each_case(&cases, |case| assert_case(&kubectl, case, &pods))
    })?;
    step("a debugging container starts and has no key", || assert_debug_container(&kubectl, &image))
}

/// Checks every case, and returns an error that lists all cases that fail.
fn for_each_case(cases: &[PodCase], check: impl Fn(&PodCase) -> Result<()>) -> Result<()> {
    let failure = |case: &PodCase| check(case).err().map(|error| format!("{}: {error:#}", case.name));
    let failures: Vec<String> = cases.iter().filter_map(failure).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn create_case(kubectl: &Kubectl<'_>, case: &PodCase, image: &str) -> Result<()> {
    let result = create(kubectl, &[], &case.manifest(image).to_string())?;
    ensure!(result.accepted, "the pod was rejected: {}", result.stderr_lines.join("\n"));
    case.assert_warnings(&result)
}

/// Creates a pod with a generated name. The webhook cannot know the name of its Secret, so the pod gets its
/// certificate from the issuance API.
fn create_with_generated_name(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let mut pod = pod_case("generated").manifest(image);
    pod["metadata"]["name"] = Value::Null;
    pod["metadata"]["generateName"] = "generated-".into();
    let result = create(kubectl, &[], &pod.to_string())?;
    ensure!(
        result.accepted && result.stderr_lines.is_empty(),
        "kubectl printed about a pod with generateName: {}",
        result.stderr_lines.join("\n")
    );
    Ok(())
}

/// Creates a pod that does not name its namespace.
fn create_without_namespace(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let pod = pod_case("no-namespace").manifest(image);
    // kubectl adds the namespace to an object, but not to a raw request.
    let path = format!("/api/v1/namespaces/{APP}/pods");
    let result = create(kubectl, &["--raw", &path], &pod.to_string())?;
    ensure!(result.accepted, "a pod without a namespace was rejected: {}", result.stderr_lines.join("\n"));
    Ok(())
}

fn assert_case(kubectl: &Kubectl<'_>, case: &PodCase, pods: &[Value]) -> Result<()> {
    let pod =
        pods.iter().find(|pod| pod["metadata"]["name"] == case.name).context("the pod does not exist")?;
    let inits = names(&pod["spec"]["initContainers"]);
    ensure!(inits == case.init_containers, "the init containers are {inits:?}");
    assert_fetch_container(pod)?;
    for container in &case.without_files {
        let mounts = &find(pod, container)?["volumeMounts"];
        ensure!(!mounts.to_string().contains("certmint"), "container {container} has the mounts {mounts}");
    }
    for reader in &case.readers {
        assert_reads_key(kubectl, case, reader)?;
    }
    if case.name == "guaranteed" {
        ensure!(pod["status"]["qosClass"] == "Guaranteed", "the QoS class is {}", pod["status"]["qosClass"]);
    }
    Ok(())
}

/// Asserts that a container can read the key, that its user and the mode and owner of the file are as expected, and
/// that others have access to the directory only if the file is readable for everyone.
fn assert_reads_key(kubectl: &Kubectl<'_>, case: &PodCase, reader: &KeyReader) -> Result<()> {
    let KeyReader { container, access } = reader;
    let program = format!(
        "cd {} && grep -q 'PRIVATE KEY' tls.key && grep -q CERTIFICATE tls.crt && echo $(id -u) $(stat -Lc '%a %u:%g' tls.key) && stat -Lc %a ..data",
        case.mount_path()
    );
    let printed = kubectl.exec(case.name, container, &["sh", "-c", &program])?;
    let (found, directory_mode) = printed.trim().split_once('\n').with_context(|| printed.clone())?;
    ensure!(
        found == *access,
        "container {container} reads the key as \"{found}\" (uid mode owner:group), not as \"{access}\""
    );
    let world_readable = access.contains(" 444 ");
    ensure!(
        directory_mode.ends_with('0') != world_readable,
        "in container {container}, the files' directory has the mode {directory_mode}"
    );
    Ok(())
}

/// Asserts that the certmint-fetch container runs Certmint's image, and has its own token instead of the pod's.
fn assert_fetch_container(pod: &Value) -> Result<()> {
    let fetch_container = find(pod, "certmint")?;
    let image = fetch_container["image"].as_str().unwrap_or_default();
    ensure!(image.contains("/certmint-fetch:"), "the certmint-fetch container runs the image {image}");
    let mounts = fetch_container["volumeMounts"].as_array().into_iter().flatten();
    let tokens = mounts.filter(|mount| mount["mountPath"] == API_TOKEN_DIRECTORY).map(|mount| &mount["name"]);
    let tokens: Vec<&Value> = tokens.collect();
    ensure!(
        tokens == ["certmint-token"],
        "the certmint-fetch container mounts {tokens:?} at {API_TOKEN_DIRECTORY}"
    );
    Ok(())
}

/// Adds an ephemeral container to a running pod with `kubectl debug`, and asserts that it does not see the key.
fn assert_debug_container(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let (pod, script) =
        ("user-of-pod", "ls /var/run/secrets/certmint.dev/tls.key || echo nothing; sleep 3600");
    let image = format!("--image={image}");
    kubectl.run(&["debug", pod, "--quiet", &image, "--container=debugger", "--", "sh", "-c", script])?;
    wait::until("the debugging container to print its result", DEFAULT_TIMEOUT, || {
        let log = kubectl.logs(pod, "debugger")?;
        Ok(if log.contains("nothing") { Check::Passed(()) } else { Check::NotYet(log) })
    })?;
    let pod = kubectl.get(&["pod", pod])?;
    let mounts = pod["spec"]["ephemeralContainers"][0]["volumeMounts"].to_string();
    ensure!(!mounts.contains("certmint"), "the debugging container has the mounts {mounts}");
    ensure!(is_true(&pod, "Ready"), "the pod is no longer ready");
    Ok(())
}

fn find<'a>(pod: &'a Value, name: &str) -> Result<&'a Value> {
    let lists = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|container| container["name"] == name)
        .with_context(|| format!("the pod has no container {name}"))
}

fn names(containers: &Value) -> Vec<&str> {
    containers.as_array().into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
}
