//! Row `start`: the time from the start of a controller to its readiness in a full cluster. The baseline is a
//! plain client that lists the same objects.

use anyhow::Result;
use certmint_contract::{WorkloadKind, keys};
use certmint_local_cluster::cluster::Cluster;

use crate::in_cluster::{ApiCall, CallRounds, ResponseForm, Task, Timings, Verb};
use crate::result::{Measurement, Target};
use crate::run::Run;

/// Number of times that the plain client lists the objects. The result is the median.
const LIST_ROUNDS: usize = 3;

/// Measures the time from the start of the controller's process until its `/readyz` answers with 200.
pub(crate) fn controller_start(run: &Run) -> Result<Vec<Measurement>> {
    let loaded = run.loaded_cluster()?;
    let what = format!("process start to /readyz with {} Secrets", loaded.count);
    let seconds = loaded.restart()?;
    let measurement = Measurement::new("start", what, seconds, "s");
    Ok(vec![
        measurement
            .compared_with("a plain client lists the same objects", time_to_list(&loaded.cluster)?)
            .target(Target::Max(3.0)),
    ])
}

/// Returns the seconds that a plain client needs to list Certmint's workloads and Secrets, and all Services.
fn time_to_list(cluster: &Cluster) -> Result<f64> {
    let rounds = CallRounds { rounds: vec![list_calls(); LIST_ROUNDS], clients: 1 };
    let timings: Timings = Task::Rounds(rounds).run(cluster)?;
    Ok(timings.p50 / 1e3)
}

fn list_calls() -> Vec<ApiCall> {
    let selector = format!("?labelSelector={}%3D{}", keys::MANAGED, keys::TRUE);
    let list = |path, response_form| ApiCall { verb: Verb::Get, path, body: String::new(), response_form };
    let workloads = WorkloadKind::ALL.into_iter().map(|kind| {
        let (root, kinds) = (api(kind.api_version()), kind.as_str().to_lowercase());
        list(format!("{root}/{kinds}s{selector}"), ResponseForm::Whole)
    });
    let others = [
        list("/api/v1/services".to_owned(), ResponseForm::Whole),
        list(format!("/api/v1/secrets{selector}"), ResponseForm::MetadataList),
    ];
    workloads.chain(others).collect()
}

/// Returns the path of an API version.
fn api(version: &str) -> String {
    if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_everything_that_the_controller_watches() {
        let paths: Vec<String> = list_calls().into_iter().map(|call| call.path).collect();
        assert_eq!(paths.len(), WorkloadKind::ALL.len() + 2);
        for path in
            ["/apis/apps/v1/deployments", "/apis/batch/v1/cronjobs", "/api/v1/pods", "/api/v1/secrets"]
        {
            let path = format!("{path}?labelSelector=certmint.dev/managed%3Dtrue");
            assert!(paths.contains(&path), "{path}");
        }
    }
}
