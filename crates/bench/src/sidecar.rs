//! certmint-fetch after its start, when nothing is to be done: what it holds, and what it takes. Once a second it reads
//! the link by which kubelet swaps the content of the Secret's volume, and looks at the clock. Beside it stands the
//! pod's pause process, which does nothing at all.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;

use crate::figure::{Figure, Target};
use crate::inside::Pod;
use crate::process::Process;
use crate::run::Run;
use crate::{injected, shared};

const ROW: &str = "sidecar";
const NAMESPACE: &str = "bench-sidecar";

pub(crate) fn sidecar(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let seconds = if run.quick { 1 } else { 60 };
    shared::within(cluster, NAMESPACE, |kubectl| {
        measure(cluster, &injected::pod(cluster, kubectl, NAMESPACE)?, seconds)
    })
}

fn measure(cluster: &Cluster, pod: &Pod, seconds: u64) -> Result<Vec<Figure>> {
    let process = injected::fetcher(cluster, pod)?;
    let pause = Process::of_pod(cluster, "^/pause", &pod.uid)?;
    let before = process.precise_cpu()?;
    // The time itself is what is measured.
    sleep(Duration::from_secs(seconds));
    let each_minute = (process.precise_cpu()? - before) / seconds as f64 * 60.0;
    Ok(vec![
        Figure::new(ROW, "RSS", process.rss()?, "MiB")
            .beside("the pod's pause process", pause.rss()?)
            .target(Target::Most(3.0)),
        // A ten-thousandth of a core at most is called none.
        Figure::new(ROW, "idle, CPU in a minute", each_minute * 1e3, "ms").target(Target::Most(6.0)),
    ])
}
