//! What is shown to work on a real cluster, one named scenario at a time.
//!
//! A scenario keeps to namespaces of [ours](certmint_local_cluster::namespaces::namespace) that bear its name (`opt-in`,
//! `opt-in-restricted`): those are reported on when it fails, and removed when it ends.

mod access;
mod bad_input;
mod book;
mod ca;
mod chart;
mod explained;
mod faults;
mod how_to;
mod lifecycle;
pub mod local_cluster;
mod main_job;
mod observability;
mod own_cluster;
mod ownership;
mod pods;
mod requests;
mod secrets;

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::namespaces;
use certmint_local_cluster::progress::{self, human};

use crate::report;

/// One thing that is shown.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line, and that of its namespaces.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub shows: &'static str,
    /// Runs it; an error is a failure.
    pub run: fn(&Cluster) -> Result<()>,
}

/// Every scenario, in the order in which they run: each folder lists its own.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        main_job::SCENARIOS,
        requests::SCENARIOS,
        explained::SCENARIOS,
        pods::SCENARIOS,
        secrets::SCENARIOS,
        ca::SCENARIOS,
        ownership::SCENARIOS,
        faults::SCENARIOS,
        bad_input::SCENARIOS,
        observability::SCENARIOS,
        chart::SCENARIOS,
        book::SCENARIOS,
        how_to::SCENARIOS,
        lifecycle::SCENARIOS,
        access::SCENARIOS,
        local_cluster::SCENARIOS,
    ]
    .concat()
}

/// How a run of scenarios went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

/// The scenarios named, or all of them when none is.
///
/// # Errors
/// When there is none of a name.
pub fn chosen(names: &[String]) -> Result<Vec<Scenario>> {
    let all = all();
    if names.is_empty() {
        return Ok(all);
    }
    names
        .iter()
        .map(|name| match all.iter().find(|scenario| scenario.name == name) {
            Some(scenario) => Ok(*scenario),
            None => bail!(
                "there is no scenario {name}; there are: {}",
                all.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ")
            ),
        })
        .collect()
}

/// Runs `scenarios`, each cluster taking the next when it has ended one, and prints how each went; a failure does not
/// stop the others. What looks at the machine as a whole runs alone, in the end.
#[must_use]
pub fn run(clusters: &[Cluster], scenarios: &[Scenario]) -> Tally {
    let is_alone =
        |scenario: &&Scenario| local_cluster::SCENARIOS.iter().any(|alone| alone.name == scenario.name);
    let (alone, shared): (Vec<_>, Vec<_>) = scenarios.iter().partition(is_alone);
    let waiting = Mutex::new(shared.into_iter());
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let lane = |(cluster, name)| {
            let waiting = &waiting;
            scope.spawn(move || {
                if clusters.len() > 1 {
                    progress::enter_lane(name);
                }
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                std::iter::from_fn(next)
                    .map(|scenario| run_one(cluster, scenario))
                    .fold(Tally::default(), Tally::and)
            })
        };
        let lanes: Vec<_> = clusters.iter().zip('A'..).map(lane).collect();
        for lane in lanes {
            // A scenario that panics is a failure like others.
            tally = tally.and(lane.join().unwrap_or(Tally { passed: 0, failed: 1 }));
        }
    });
    let ended =
        clusters.first().into_iter().flat_map(|cluster| alone.iter().map(|alone| run_one(cluster, alone)));
    ended.fold(tally, Tally::and)
}

fn run_one(cluster: &Cluster, scenario: &Scenario) -> Tally {
    progress::heading(&format!("{}: {}", scenario.name, scenario.shows));
    let start = Instant::now();
    let outcome = (scenario.run)(cluster);
    let tally = match &outcome {
        Ok(()) => {
            progress::note(&format!("passed {} in {}", scenario.name, human(start.elapsed())));
            Tally { passed: 1, failed: 0 }
        }
        Err(error) => {
            let mut namespaces = namespaces_of(cluster, scenario);
            namespaces.push(SYSTEM_NAMESPACE.to_owned());
            // First and last: what stands between can be long.
            let failed = format!("FAILED {} after {}: {error:#}", scenario.name, human(start.elapsed()));
            progress::note(&format!("{failed}\n"));
            progress::text(&report::of(cluster, &namespaces));
            progress::note(&failed);
            Tally { passed: 0, failed: 1 }
        }
    };
    for namespace in namespaces_of(cluster, scenario) {
        // A namespace that stays does not harm the next scenario, which has its own.
        drop(cluster.kubectl().delete(&["namespace", &namespace, "--wait=false"]));
    }
    tally
}

fn namespaces_of(cluster: &Cluster, scenario: &Scenario) -> Vec<String> {
    let all = cluster.kubectl().list(&["namespaces", &namespaces::selector()]).unwrap_or_default();
    let names = all.iter().filter_map(|namespace| namespace["metadata"]["name"].as_str());
    names.filter(|name| belongs(name, scenario.name)).map(str::to_owned).collect()
}

fn belongs(namespace: &str, scenario: &str) -> bool {
    namespace.strip_prefix(scenario).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scenario_is_answered_with_the_known_ones() {
        let error = chosen(&["nope".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("side-by-side"), "{error}");
    }

    #[test]
    fn a_namespace_belongs_to_the_scenario_it_is_named_after() {
        assert!(belongs("opt-in", "opt-in"));
        assert!(belongs("opt-in-restricted", "opt-in"));
        assert!(!belongs("opt-inner", "opt-in"));
    }
}
