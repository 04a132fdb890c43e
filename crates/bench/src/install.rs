//! From the start of `helm install --wait` on a cluster that has the images and nothing else of ours, through
//! `kubectl annotate` right after it, to the Secret of the Deployment: the three commands of the tutorial. Beside it
//! stands what this cluster takes to start as many pods that do nothing.

use std::time::Instant;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, RELEASE, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::{command, images, repository};
use serde_json::{Value, json};

use crate::figure::{Figure, Target};
use crate::run::Run;
use crate::{injected, shared};

const ROW: &str = "install";
const NAME: &str = "bench-install";
const PLAIN_NAMESPACE: &str = "bench-plain";
/// As many Deployments as the chart has.
const PLAIN: [&str; 2] = ["plain-1", "plain-2"];
/// Of each, as by the chart's values.
const REPLICAS: usize = 2;

pub(crate) fn install(run: &Run) -> Result<Vec<Figure>> {
    let (cluster, figures) = shared::start(&run.cache, "empty", measure)?;
    cluster.stop()?;
    Ok(figures)
}

fn measure(cluster: &Cluster) -> Result<Vec<Figure>> {
    let plain = plain(cluster)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    kubectl.apply(&injected::deployment(cluster, NAME, false)?.to_string())?;
    let values = installation::image_values(&images::ours(cluster.cache())?, |image| cluster.provide(image))?;
    let mut helm = cluster.command("helm");
    helm.args(["install", RELEASE]).arg(repository::chart()).args(["--namespace", SYSTEM_NAMESPACE]);
    helm.args(["--create-namespace", "--wait", "--set", &values.join(",")]);
    let begun = Instant::now();
    command::output(&mut helm)?;
    let installed = begun.elapsed().as_secs_f64();
    kubectl.run(&["annotate", "deployment", NAME, "certmint.dev/inject=true"])?;
    injected::await_secret(&kubectl, NAME)?;
    let certified = begun.elapsed().as_secs_f64();
    let figure = |what: &str, seconds| {
        Figure::new(ROW, what, seconds, "s").beside("as many plain pods, applied to available", plain)
    };
    Ok(vec![
        figure("helm install --wait", installed),
        figure("to the first certificate", certified).target(Target::Most(5.0)),
    ])
}

/// Seconds from the start of `kubectl apply` of as many plain pods until all are available.
fn plain(cluster: &Cluster) -> Result<f64> {
    let deployment = |name| -> Result<Value> {
        let mut deployment = injected::deployment(cluster, name, false)?;
        deployment["spec"]["replicas"] = REPLICAS.into();
        Ok(deployment)
    };
    let items = PLAIN.into_iter().map(deployment).collect::<Result<Vec<_>>>()?;
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    let [one, other] = PLAIN;
    let timeout = format!("--timeout={}s", DEFAULT_TIMEOUT.as_secs());
    shared::within(cluster, PLAIN_NAMESPACE, |kubectl| {
        let begun = Instant::now();
        kubectl.apply(&list)?;
        kubectl.run(&["wait", "--for=condition=Available", "deployment", one, other, &timeout])?;
        Ok(begun.elapsed().as_secs_f64())
    })
}
