//! How soon a controller serves that finds a full cluster, beside a plain client that lists what it has to know.

use anyhow::Result;
use certmint_contract::{WorkloadKind, keys};
use certmint_local_cluster::cluster::Cluster;

use crate::figure::{Figure, Target};
use crate::inside::{Answer, Call, Pace, Rounds, Task, Verb};
use crate::run::Run;

/// How many times the lists are had, of which the median counts.
const LISTED: usize = 3;

/// From the start of the process to `/readyz`.
pub(crate) fn start(run: &Run) -> Result<Vec<Figure>> {
    let filled = run.filled()?;
    let what = format!("process start to /readyz with {} Secrets", filled.count);
    let seconds = filled.restart()?;
    let figure = Figure::new("start", what, seconds, "s");
    Ok(vec![
        figure
            .beside("the same, listed by a plain client", listed(&filled.cluster)?)
            .target(Target::Most(3.0)),
    ])
}

/// Seconds for workloads and Secrets of ours, and all Services, each in one list.
fn listed(cluster: &Cluster) -> Result<f64> {
    let rounds = Rounds { rounds: vec![lists(); LISTED], clients: 1 };
    let pace: Pace = Task::Rounds(rounds).run(cluster)?;
    Ok(pace.p50 / 1e3)
}

fn lists() -> Vec<Call> {
    let ours = format!("?labelSelector={}%3D{}", keys::MANAGED, keys::TRUE);
    let list = |path, answer| Call { verb: Verb::Get, path, body: String::new(), answer };
    let workloads = WorkloadKind::ALL.into_iter().map(|kind| {
        let (root, kinds) = (api(kind.api_version()), kind.as_str().to_lowercase());
        list(format!("{root}/{kinds}s{ours}"), Answer::Whole)
    });
    let others = [
        list("/api/v1/services".to_owned(), Answer::Whole),
        list(format!("/api/v1/secrets{ours}"), Answer::MetadataList),
    ];
    workloads.chain(others).collect()
}

/// Where objects of that version are.
fn api(version: &str) -> String {
    if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_listed_that_the_controller_watches() {
        let paths: Vec<String> = lists().into_iter().map(|call| call.path).collect();
        assert_eq!(paths.len(), WorkloadKind::ALL.len() + 2);
        for path in
            ["/apis/apps/v1/deployments", "/apis/batch/v1/cronjobs", "/api/v1/pods", "/api/v1/secrets"]
        {
            let path = format!("{path}?labelSelector=certmint.dev/managed%3Dtrue");
            assert!(paths.contains(&path), "{path}");
        }
    }
}
