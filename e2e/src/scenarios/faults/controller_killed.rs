//! The scenario `controller-killed` applies 200 opted-in workloads. While the controllers issue the certificates, the
//! scenario kills both controllers, deletes the leader's pod, and kills both again, at three random moments.
//!
//! A watch records all changes of the Secrets. The scenario asserts that each workload has exactly one Secret, that
//! the Secret was written once, and that OpenSSL accepts its key and chain.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::process::Signal;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::machine;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};

use super::bulk_workloads;
use super::controllers::{self, CONTAINER};
use super::secret_history::SecretHistory;

const NAME: &str = "controller-killed";
const WORKLOADS: usize = 200;
/// Environment variable with the seed of the random moments. With the seed of an earlier run, the controllers are killed
/// at the same moments.
const SEED_VARIABLE: &str = "CERTMINT_SEED";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    machine::install(machine::VERIFIERS)?;
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let seed = seed()?;
    let [first, second, third] = kill_thresholds(seed);
    note(&format!(
        "seed {seed}: kills at {first}, {second} and {third} Secrets ({SEED_VARIABLE}={seed} repeats this run)"
    ));
    let history = SecretHistory::start(&kubectl, NAME)?;
    thread::scope(|scope| {
        let creation = scope.spawn(|| bulk_workloads::create(&kubectl, "killed", WORKLOADS));
        let kill_at = |threshold: usize, what: &str, kill: &dyn Fn(&Cluster) -> Result<()>| {
            history.wait_for_count(threshold)?;
            step(&format!("{what} after {} Secrets", history.count()), || kill(cluster))
        };
        let killed = kill_at(first, "both controllers receive SIGKILL", &kill_controllers)
            .and_then(|()| {
                kill_at(second, "the leader's pod is deleted without grace period", &delete_leader)
            })
            .and_then(|()| kill_at(third, "both controllers receive SIGKILL", &kill_controllers));
        creation.join().map_err(|_| anyhow!("the creation of workloads panicked"))??;
        killed
    })?;
    step(&format!("all {WORKLOADS} workloads have their Secret"), || history.wait_for_count(WORKLOADS))?;
    // When the new workload has its Secret, the controllers have checked all other workloads again.
    step("a workload that opts in later gets its Secret", || {
        installation::wait_for_ready(cluster)?;
        bulk_workloads::create(&kubectl, "later", 1)?;
        history.wait_for_count(WORKLOADS + 1)
    })?;
    step("each certificate was issued once", || history.assert_each_issued_once(WORKLOADS + 1))?;
    step("each certificate is valid (OpenSSL)", || bulk_workloads::assert_each_valid(&kubectl, WORKLOADS + 1))
}

/// Kills every controller that runs. If all controllers are still restarting, waits until the first one runs.
fn kill_controllers(cluster: &Cluster) -> Result<()> {
    wait::until("a running controller", DEFAULT_TIMEOUT, || {
        let pods = controllers::pods(cluster)?;
        let killed = pods.iter().filter(|pod| cluster.signal(pod, CONTAINER, Signal::Kill).is_ok()).count();
        Ok(if killed > 0 { Check::Passed(()) } else { Check::NotYet("no controller runs".to_owned()) })
    })
}

fn delete_leader(cluster: &Cluster) -> Result<()> {
    let leader = controllers::leader(cluster)?;
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.delete(&["pod", &leader, "--force", "--grace-period=0"]).map(drop)
}

fn seed() -> Result<u64> {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.parse().with_context(|| format!("{SEED_VARIABLE} is not a number")),
        Err(_) => Ok(u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos())),
    }
}

/// Returns the thresholds of the three kills: numbers of existing Secrets in rising order, between 1 and 180. The random
/// number generator is splitmix64.
fn kill_thresholds(seed: u64) -> [usize; 3] {
    let mut state = seed;
    let mut thresholds = [0; 3].map(|_: usize| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed >> 31) % 180).unwrap_or_default() + 1
    });
    thresholds.sort_unstable();
    thresholds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_determines_the_thresholds() {
        assert_eq!(kill_thresholds(7), kill_thresholds(7));
        assert_ne!(kill_thresholds(7), kill_thresholds(8));
        assert!(kill_thresholds(9).iter().all(|threshold| (1..WORKLOADS).contains(threshold)));
    }
}
