//! certmint-fetch, from the start of its process to its end with the files in place (`certmint-fetch once`, which does
//! what the sidecar does until then). It is the released program in a real pod's namespaces; what `nsenter` takes to
//! get there is counted too. Beside it stands the same program that has nothing to do (`certmint-fetch wait`).
//!
//! The issuance API is asked with a token that nobody has shown yet, as each new pod's is: the API server remembers
//! for seconds whose a token is.

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;

use crate::figure::{Figure, Target};
use crate::inside::{Pace, Pod, Start, Starts, Task, Tokens};
use crate::run::Run;
use crate::{injected, shared};

const ROW: &str = "fetch";
const NAMESPACE: &str = "bench-fetch";
/// Tokens asked for at one time.
const CLIENTS: usize = 8;

pub(crate) fn fetch(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let count = if run.quick { 20 } else { 300 };
    shared::within(cluster, NAMESPACE, |kubectl| {
        measure(cluster, &injected::pod(cluster, kubectl, NAMESPACE)?, count)
    })
}

fn measure(cluster: &Cluster, pod: &Pod, count: usize) -> Result<Vec<Figure>> {
    let pid = injected::fetcher(cluster, pod)?.pid();
    let paced = |starts: Vec<Start>| Task::Starts(Starts { pid, starts }).run::<Pace>(cluster);
    let tokens = Tokens { pods: vec![pod.clone()], count, clients: CLIENTS };
    let tokens: Vec<String> = Task::Tokens(tokens).run(cluster)?;
    let floor = paced(vec![Start::Files; count])?;
    let secret = paced(vec![Start::Secret; count])?;
    let issuance = paced(tokens.into_iter().map(Start::Token).collect())?;
    let figure = |what: &str, value, floor| {
        Figure::new(ROW, what, value, "ms").beside("started with nothing to do", floor)
    };
    Ok(vec![
        figure("Secret present, p50", secret.p50, floor.p50),
        figure("Secret present, p99", secret.p99, floor.p99).target(Target::Most(20.0)),
        figure("through the issuance API, p50", issuance.p50, floor.p50),
        figure("through the issuance API, p99", issuance.p99, floor.p99).target(Target::Most(50.0)),
    ])
}
