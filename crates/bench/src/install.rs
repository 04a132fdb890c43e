//! From the start of `helm install --wait` on a cluster that has the images and nothing else of ours, through
//! `kubectl annotate` right after it, to the Secret of the Deployment: the three commands of the tutorial.

use std::time::Instant;

use anyhow::Result;
use certmint_e2e::cluster::Cluster;
use certmint_e2e::story::installation::{self, RELEASE, SYSTEM_NAMESPACE};
use certmint_e2e::story::namespace;
use certmint_e2e::{command, images, repository};

use crate::figure::{Figure, Target};
use crate::{Run, injected, shared};

const ROW: &str = "install";
const NAME: &str = "bench-install";

pub(crate) fn install(run: &Run) -> Result<Vec<Figure>> {
    let cluster = shared::start(&run.cache, "empty")?;
    let figures = measure(&cluster);
    cluster.stop()?;
    figures
}

fn measure(cluster: &Cluster) -> Result<Vec<Figure>> {
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
    Ok(vec![
        Figure::new(ROW, "helm install --wait", installed, "s"),
        Figure::new(ROW, "to the first certificate", begun.elapsed().as_secs_f64(), "s")
            .target(Target::Most(5.0)),
    ])
}
