//! certmint-fetch, from the start of its process to its end with the files in place (`certmint-fetch once`, which does
//! what the sidecar does until then). It is the released program in a real pod's namespaces, with that pod's token;
//! what `nsenter` takes to get there is counted too.

use anyhow::Result;

use crate::figure::{Figure, Target};
use crate::inside::{Pace, Starts, Task};
use crate::{Run, injected};

const ROW: &str = "fetch";
const NAMESPACE: &str = "bench-fetch";

pub(crate) fn fetch(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let pid = injected::fetcher(cluster, NAMESPACE)?.pid();
    let count = if run.quick { 20 } else { 300 };
    let mut figures = Vec::new();
    for (what, secret, most) in [("Secret present", true, 20.0), ("through the issuance API", false, 50.0)] {
        let pace: Pace = Task::Starts(Starts { pid, count, secret }).run(cluster)?;
        figures.push(Figure::new(ROW, format!("{what}, p50"), pace.p50, "ms"));
        figures.push(Figure::new(ROW, format!("{what}, p99"), pace.p99, "ms").target(Target::Most(most)));
    }
    cluster.kubectl().delete(&["namespace", NAMESPACE])?;
    Ok(figures)
}
