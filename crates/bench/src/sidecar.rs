//! Row `sidecar`: memory and processor time of an idle certmint-fetch container. Once a second, certmint-fetch reads
//! the link that the kubelet swaps when the Secret's content changes, and it reads the clock. The baseline is the pod's
//! pause process, which does nothing.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;

use crate::in_cluster::Pod;
use crate::process::Process;
use crate::result::{Measurement, Target};
use crate::run::Run;
use crate::{common, sample_workload};

const ROW: &str = "sidecar";
const NAMESPACE: &str = "bench-sidecar";

pub(crate) fn sidecar(run: &Run) -> Result<Vec<Measurement>> {
    let cluster = run.installation()?;
    let seconds = if run.quick { 1 } else { 60 };
    common::in_namespace(cluster, NAMESPACE, |kubectl| {
        measure(cluster, &sample_workload::create_pod(cluster, kubectl, NAMESPACE)?, seconds)
    })
}

fn measure(cluster: &Cluster, pod: &Pod, seconds: u64) -> Result<Vec<Measurement>> {
    let process = sample_workload::fetch_process(cluster, pod)?;
    let pause = Process::of_pod(cluster, "^/pause", &pod.uid)?;
    let before = process.precise_cpu()?;
    // This row measures the processor time in a fixed period, so it waits for the period instead of a condition.
    sleep(Duration::from_secs(seconds));
    let each_minute = (process.precise_cpu()? - before) / seconds as f64 * 60.0;
    Ok(vec![
        Measurement::new(ROW, "RSS", process.rss()?, "MiB")
            .compared_with("the pod's pause process", pause.rss()?)
            .target(Target::Max(3.0)),
        // The target is a ten-thousandth of a core, which counts as idle.
        Measurement::new(ROW, "CPU for each minute without work", each_minute * 1e3, "ms")
            .target(Target::Max(6.0)),
    ])
}
