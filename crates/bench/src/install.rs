//! Row `install`: time to install Certmint, and time to the first certificate, on a cluster that has the images and
//! nothing else of Certmint. Both times start with `helm install --wait`. Right after it, `kubectl annotate` opts in a
//! Deployment, and the second time ends when the Deployment's Secret exists. The baseline is the time that this cluster
//! needs to start as many pods as the chart has. These plain pods do nothing.

use std::time::Instant;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, RELEASE, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::{command, images, repository};
use serde_json::{Value, json};

use crate::result::{Measurement, Target};
use crate::run::Run;
use crate::{common, sample_workload};

const ROW: &str = "install";
const NAME: &str = "bench-install";
const PLAIN_NAMESPACE: &str = "bench-plain";
/// Names of the plain Deployments. The chart has two as well.
const PLAIN: [&str; 2] = ["plain-1", "plain-2"];
/// Replicas of each plain Deployment, as in the chart's default values.
const REPLICAS: usize = 2;

pub(crate) fn install(run: &Run) -> Result<Vec<Measurement>> {
    let (cluster, measurements) = common::start_cluster(&run.cache, "empty", measure)?;
    cluster.stop()?;
    Ok(measurements)
}

fn measure(cluster: &Cluster) -> Result<Vec<Measurement>> {
    let plain = time_plain_pods(cluster)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    kubectl.apply(&sample_workload::plain_deployment(cluster, NAME)?.to_string())?;
    let values = installation::image_values(&images::release_images(cluster.cache())?, |image| {
        cluster.provide(image)
    })?;
    let mut helm = cluster.command("helm");
    helm.args(["install", RELEASE]).arg(repository::chart()).args(["--namespace", SYSTEM_NAMESPACE]);
    helm.args(["--create-namespace", "--wait", "--set", &values.join(",")]);
    let begun = Instant::now();
    command::output(&mut helm)?;
    let installed = begun.elapsed().as_secs_f64();
    kubectl.run(&["annotate", "deployment", NAME, "certmint.dev/inject=true"])?;
    sample_workload::wait_for_secret(&kubectl, NAME)?;
    let certified = begun.elapsed().as_secs_f64();
    let measurement = |what: &str, seconds| {
        Measurement::new(ROW, what, seconds, "s")
            .compared_with("the same number of plain pods, from kubectl apply until available", plain)
    };
    Ok(vec![
        measurement("helm install --wait", installed),
        measurement("from helm install to the first certificate", certified).target(Target::Max(5.0)),
    ])
}

/// Returns the seconds from the start of `kubectl apply` until all plain pods are available.
fn time_plain_pods(cluster: &Cluster) -> Result<f64> {
    let deployment = |name| -> Result<Value> {
        let mut deployment = sample_workload::plain_deployment(cluster, name)?;
        deployment["spec"]["replicas"] = REPLICAS.into();
        Ok(deployment)
    };
    let items = PLAIN.into_iter().map(deployment).collect::<Result<Vec<_>>>()?;
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    let [one, other] = PLAIN;
    let timeout = format!("--timeout={}s", DEFAULT_TIMEOUT.as_secs());
    common::in_namespace(cluster, PLAIN_NAMESPACE, |kubectl| {
        let begun = Instant::now();
        kubectl.apply(&list)?;
        kubectl.run(&["wait", "--for=condition=Available", "deployment", one, other, &timeout])?;
        Ok(begun.elapsed().as_secs_f64())
    })
}
