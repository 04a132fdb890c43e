//! The table of shapes, all created at once.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::await_pods;
use certmint_local_cluster::{images, installation};
use serde_json::Value;

use super::shape::{APP, Shape};
use super::{answers, create, shapes};
use crate::story::PATIENCE;

/// What the API server mounts into containers, unless something is there.
const API_TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, APP, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let shapes = shapes::all();

    step("what is refused and warned about is so in these words", || answers::check(&kubectl, &image))?;
    step(&format!("{} pods of as many shapes are created", shapes.len()), || {
        each(&shapes, |shape| created(&kubectl, shape, &image))?;
        generated_name(&kubectl, &image)?;
        without_namespace(&kubectl, &image)
    })?;
    let pods = step("all of them start", || await_pods(&kubectl, APP, true))?;
    step("each has what its case asks for, where and how wide", || {
        each(&shapes, |shape| as_expected(&kubectl, shape, &pods))
    })?;
    step("a debugging container gets in, without the key", || debugged(&kubectl, &image))
}

/// Checks every case, and names all that fail.
fn each(shapes: &[Shape], check: impl Fn(&Shape) -> Result<()>) -> Result<()> {
    let failed = |shape: &Shape| check(shape).err().map(|error| format!("{}: {error:#}", shape.name));
    let failures: Vec<String> = shapes.iter().filter_map(failed).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn created(kubectl: &Kubectl<'_>, shape: &Shape, image: &str) -> Result<()> {
    let heard = create(kubectl, &[], &shape.manifest(image).to_string())?;
    ensure!(heard.accepted, "refused: {}", heard.told.join("\n"));
    let expected: Vec<String> = shape.warnings.iter().map(|warning| format!("Warning: {warning}")).collect();
    ensure!(heard.told == expected, "kubectl told {:?} instead of {expected:?}", heard.told);
    Ok(())
}

/// The Secret's name is not known at admission: the issuance API has it.
fn generated_name(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let mut pod = super::shape::shape("generated").manifest(image);
    pod["metadata"]["name"] = Value::Null;
    pod["metadata"]["generateName"] = "generated-".into();
    let heard = create(kubectl, &[], &pod.to_string())?;
    ensure!(heard.accepted && heard.told.is_empty(), "generateName: {}", heard.told.join("\n"));
    Ok(())
}

fn without_namespace(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let pod = super::shape::shape("no-namespace").manifest(image);
    // kubectl fills in the namespace of an object, but not of a raw request.
    let heard = create(kubectl, &["--raw", &format!("/api/v1/namespaces/{APP}/pods")], &pod.to_string())?;
    ensure!(heard.accepted, "a pod without a namespace: {}", heard.told.join("\n"));
    Ok(())
}

fn as_expected(kubectl: &Kubectl<'_>, shape: &Shape, pods: &[Value]) -> Result<()> {
    let pod =
        pods.iter().find(|pod| pod["metadata"]["name"] == shape.name).context("there is no such pod")?;
    let inits = names(&pod["spec"]["initContainers"]);
    ensure!(inits == shape.order, "the init containers are {inits:?}");
    ours_is_ours(pod)?;
    for container in &shape.without {
        let mounts = &find(pod, container)?["volumeMounts"];
        ensure!(!mounts.to_string().contains("certmint"), "{container} is not named and mounts {mounts}");
    }
    for (container, how) in &shape.readers {
        let program = format!(
            "cd {} && grep -q 'PRIVATE KEY' tls.key && grep -q CERTIFICATE tls.crt && echo $(id -u) $(stat -Lc '%a %u:%g' tls.key) && stat -Lc %a ..data",
            shape.place()
        );
        let printed = kubectl.exec(shape.name, container, &["sh", "-c", &program])?;
        let (read, directory) = printed.trim().split_once('\n').with_context(|| printed.clone())?;
        ensure!(
            read == *how,
            "{container} reads the key as \"{read}\" (uid mode owner:group), not \"{how}\""
        );
        let world = how.contains(" 444 ");
        ensure!(
            directory.ends_with('0') != world,
            "{container}: the files' directory has the mode {directory}"
        );
    }
    if shape.name == "guaranteed" {
        ensure!(pod["status"]["qosClass"] == "Guaranteed", "its QoS class is {}", pod["status"]["qosClass"]);
    }
    Ok(())
}

/// Our container runs our image and does not hold the token that speaks for the app.
fn ours_is_ours(pod: &Value) -> Result<()> {
    let ours = find(pod, "certmint")?;
    let image = ours["image"].as_str().unwrap_or_default();
    ensure!(image.contains("/certmint-fetch:"), "our container runs {image}");
    let mounts = ours["volumeMounts"].as_array().into_iter().flatten();
    let token = mounts.filter(|mount| mount["mountPath"] == API_TOKEN_DIR).map(|mount| &mount["name"]);
    let token: Vec<&Value> = token.collect();
    ensure!(token == ["certmint-token"], "our container mounts {token:?} at {API_TOKEN_DIR}");
    Ok(())
}

/// `kubectl debug` adds an ephemeral container to a pod that runs.
fn debugged(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let (pod, looks) =
        ("user-of-pod", "ls /var/run/secrets/certmint.dev/tls.key || echo nothing; sleep 3600");
    let image = format!("--image={image}");
    kubectl.run(&["debug", pod, "--quiet", &image, "--container=looks", "--", "sh", "-c", looks])?;
    wait::until("the debugging container to look", PATIENCE, || {
        let log = kubectl.logs(pod, "looks")?;
        Ok(if log.contains("nothing") { Observed::Yes(()) } else { Observed::NotYet(log) })
    })?;
    let pod = kubectl.get(&["pod", pod])?;
    let mounts = pod["spec"]["ephemeralContainers"][0]["volumeMounts"].to_string();
    ensure!(!mounts.contains("certmint"), "the debugging container mounts {mounts}");
    ensure!(is_true(&pod, "Ready"), "the pod is no longer ready");
    Ok(())
}

fn find<'a>(pod: &'a Value, name: &str) -> Result<&'a Value> {
    let lists = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|container| container["name"] == name).with_context(|| format!("there is no container {name}"))
}

fn names(containers: &Value) -> Vec<&str> {
    containers.as_array().into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
}
