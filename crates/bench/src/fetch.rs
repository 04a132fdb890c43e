//! Row `fetch`: the time from the start of certmint-fetch until it has written the files. `certmint-fetch once` writes
//! the files as the container does, and then ends. The released program runs in the namespaces of a real pod, so the
//! time that `nsenter` needs is included. The baseline is `certmint-fetch wait` when the files exist: the same program,
//! which ends at once.
//!
//! Each request to the issuance API uses a token that was not used before, as in a new pod: the API server
//! caches the result of a token's authentication for some seconds.

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;

use crate::in_cluster::{FetchStarts, Pod, StartCase, Task, Timings, TokenRequests};
use crate::result::{Measurement, Target};
use crate::run::Run;
use crate::{common, sample_workload};

const ROW: &str = "fetch";
const NAMESPACE: &str = "bench-fetch";
/// Number of tokens requested at the same time.
const CLIENTS: usize = 8;

pub(crate) fn fetch(run: &Run) -> Result<Vec<Measurement>> {
    let cluster = run.installation()?;
    let count = if run.quick { 20 } else { 300 };
    common::in_namespace(cluster, NAMESPACE, |kubectl| {
        measure(cluster, &sample_workload::create_pod(cluster, kubectl, NAMESPACE)?, count)
    })
}

fn measure(cluster: &Cluster, pod: &Pod, count: usize) -> Result<Vec<Measurement>> {
    let pid = sample_workload::fetch_process(cluster, pod)?.pid();
    let measured = |starts: Vec<StartCase>| Task::Starts(FetchStarts { pid, starts }).run::<Timings>(cluster);
    let tokens = TokenRequests { pods: vec![pod.clone()], count, clients: CLIENTS };
    let tokens: Vec<String> = Task::Tokens(tokens).run(cluster)?;
    let floor = measured(vec![StartCase::Files; count])?;
    let secret = measured(vec![StartCase::Secret; count])?;
    let issuance = measured(tokens.into_iter().map(StartCase::Token).collect())?;
    let measurement = |what: &str, value, floor| {
        Measurement::new(ROW, what, value, "ms").compared_with("start of the program without work", floor)
    };
    Ok(vec![
        measurement("with the Secret in place, p50", secret.p50, floor.p50),
        measurement("with the Secret in place, p99", secret.p99, floor.p99).target(Target::Max(20.0)),
        measurement("with the issuance API, p50", issuance.p50, floor.p50),
        measurement("with the issuance API, p99", issuance.p99, floor.p99).target(Target::Max(50.0)),
    ])
}
