//! certmint-fetch after its start, when nothing is to be done: what it holds, and what it takes. Once a second it reads
//! the link by which kubelet swaps the content of the Secret's volume, and looks at the clock.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::figure::{Figure, Target};
use crate::{Run, injected};

const ROW: &str = "sidecar";
const NAMESPACE: &str = "bench-sidecar";

pub(crate) fn sidecar(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let process = injected::fetcher(cluster, NAMESPACE)?;
    let seconds = if run.quick { 5 } else { 60 };
    let before = process.precise_cpu()?;
    // The time itself is what is measured.
    sleep(Duration::from_secs(seconds));
    let each_minute = (process.precise_cpu()? - before) / seconds as f64 * 60.0;
    let figures = vec![
        Figure::new(ROW, "RSS", process.rss()?, "MiB").target(Target::Most(3.0)),
        // A ten-thousandth of a core at most is called none.
        Figure::new(ROW, "idle, CPU in a minute", each_minute * 1e3, "ms").target(Target::Most(6.0)),
    ];
    cluster.kubectl().delete(&["namespace", NAMESPACE])?;
    Ok(figures)
}
