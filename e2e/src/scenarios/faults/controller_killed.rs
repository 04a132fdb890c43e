//! Both controllers killed at random moments while 200 workloads are issued.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::process::Signal;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::machine;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};

use super::controllers::{self, CONTAINER};
use super::history::History;
use super::many;
use crate::story::PATIENCE;

const NAME: &str = "controller-killed";
const WORKLOADS: usize = 200;
/// Set to repeat a run with the moments that it had.
const SEED: &str = "CERTMINT_SEED";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    machine::install(machine::VERIFIERS)?;
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let seed = seed()?;
    let [first, second, third] = moments(seed);
    note(&format!("seed {seed}: at {first}, {second} and {third} Secrets ({SEED}={seed} repeats it)"));
    let history = History::start(&kubectl, NAME)?;
    thread::scope(|scope| {
        let creation = scope.spawn(|| many::create(&kubectl, "killed", WORKLOADS));
        let strike = |moment: usize, what: &str, strike: &dyn Fn(&Cluster) -> Result<()>| {
            history.await_made(moment)?;
            step(&format!("{what}, {} Secrets made", history.made()), || strike(cluster))
        };
        let struck = strike(first, "SIGKILL to both controllers", &kill_all)
            .and_then(|()| strike(second, "the leader's pod deleted without grace", &delete_leader))
            .and_then(|()| strike(third, "SIGKILL to both controllers", &kill_all));
        creation.join().map_err(|_| anyhow!("the creation of workloads panicked"))??;
        struck
    })?;
    step(&format!("all {WORKLOADS} workloads have their Secret"), || history.await_made(WORKLOADS))?;
    step("another workload's turn comes after everything was looked at again", || {
        installation::ready(cluster)?;
        many::create(&kubectl, "later", 1)?;
        history.await_made(WORKLOADS + 1)
    })?;
    step("each was issued once", || history.each_issued_once(WORKLOADS + 1))?;
    step("each is valid (OpenSSL)", || many::each_valid(&kubectl, WORKLOADS + 1))
}

/// Kills every controller that runs at this moment. Where none does, because those killed before are on their way back,
/// it is the first that does.
fn kill_all(cluster: &Cluster) -> Result<()> {
    wait::until("a controller to kill", PATIENCE, || {
        let pods = controllers::pods(cluster)?;
        let killed = pods.iter().filter(|pod| cluster.signal(pod, CONTAINER, Signal::Kill).is_ok()).count();
        Ok(if killed > 0 { Observed::Yes(()) } else { Observed::NotYet("none runs".to_owned()) })
    })
}

fn delete_leader(cluster: &Cluster) -> Result<()> {
    let leader = controllers::leader(cluster)?;
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.delete(&["pod", &leader, "--force", "--grace-period=0"]).map(drop)
}

fn seed() -> Result<u64> {
    match std::env::var(SEED) {
        Ok(text) => text.parse().with_context(|| format!("{SEED} is no number")),
        Err(_) => Ok(u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos())),
    }
}

/// Three counts of Secrets in rising order, anywhere between the first and the last few (splitmix64).
fn moments(seed: u64) -> [usize; 3] {
    let mut state = seed;
    let mut moments = [0; 3].map(|_: usize| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed >> 31) % 180).unwrap_or_default() + 1
    });
    moments.sort_unstable();
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_moments() {
        assert_eq!(moments(7), moments(7));
        assert_ne!(moments(7), moments(8));
        assert!(moments(9).iter().all(|moment| (1..WORKLOADS).contains(moment)));
    }
}
