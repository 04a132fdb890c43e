//! The end-to-end scenarios: each one proves one property of Certmint on a real cluster.
//!
//! A scenario has a name (`opt-in`) and uses only namespaces with that name or with that name as a prefix
//! (`opt-in-restricted`). When a scenario fails, [`report`] prints the state of these namespaces. When it ends, they
//! are deleted.

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

/// An end-to-end scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Name on the command line. The namespaces of the scenario begin with it.
    pub name: &'static str,
    /// One sentence that says what the scenario proves.
    pub shows: &'static str,
    /// Runs the scenario on a cluster. An error means that the scenario failed.
    pub run: fn(&Cluster) -> Result<()>,
}

/// Returns every scenario in the order in which they run.
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

/// Results of the tests of a run. `cargo xtask test` adds the results of its other tests to those of the scenarios.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestResults {
    /// Number of tests that passed.
    pub passed: usize,
    /// One line for each failure, with its error. The last lines of the output repeat these lines, because an output can
    /// be too long to be kept.
    pub failures: Vec<String>,
}

impl TestResults {
    /// Adds other results to these.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
    }

    /// Returns the results of both together.
    fn and(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    /// Returns the result of one test that failed.
    #[must_use]
    pub fn failure(failure: impl Into<String>) -> Self {
        Self { passed: 0, failures: vec![failure.into()] }
    }
}

/// Returns the scenarios with these names, or every scenario when `names` is empty.
///
/// # Errors
/// When a name does not belong to a scenario.
pub fn select(names: &[String]) -> Result<Vec<Scenario>> {
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

/// Runs `scenarios` on `clusters`, prints the result of each, and returns the results.
///
/// Each cluster takes the next scenario as soon as it has finished one. A failed scenario does not stop the others.
/// The scenarios of [`local_cluster`] inspect the whole machine, so they run after all others, one at a time.
#[must_use]
pub fn run(clusters: &[Cluster], scenarios: &[Scenario]) -> TestResults {
    let needs_whole_machine = |scenario: &&Scenario| {
        local_cluster::SCENARIOS.iter().any(|exclusive| exclusive.name == scenario.name)
    };
    let (exclusive, parallel): (Vec<_>, Vec<_>) = scenarios.iter().partition(needs_whole_machine);
    let results = run_in_parallel(clusters, parallel);
    let Some(cluster) = clusters.first() else { return results };
    exclusive.into_iter().map(|scenario| run_one(cluster, scenario)).fold(results, TestResults::and)
}

/// Runs `scenarios` with one thread, called a lane, for each cluster. With several clusters, the letter of the lane
/// precedes each line of its output.
fn run_in_parallel(clusters: &[Cluster], scenarios: Vec<&Scenario>) -> TestResults {
    let queue = Mutex::new(scenarios.into_iter());
    std::thread::scope(|scope| {
        let start_lane = |(cluster, lane_name)| {
            let queue = &queue;
            scope.spawn(move || {
                if clusters.len() > 1 {
                    progress::enter_lane(lane_name);
                }
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                std::iter::from_fn(next)
                    .map(|scenario| run_one(cluster, scenario))
                    .fold(TestResults::default(), TestResults::and)
            })
        };
        let lanes: Vec<_> = clusters.iter().zip('A'..).map(start_lane).collect();
        // A scenario that panics ends its thread and counts as one failure.
        let panicked = |_| TestResults::failure("a scenario panicked; its message is above");
        let results = lanes.into_iter().map(|lane| lane.join().unwrap_or_else(panicked));
        results.fold(TestResults::default(), TestResults::and)
    })
}

/// Runs a scenario, prints its result, and deletes its namespaces.
fn run_one(cluster: &Cluster, scenario: &Scenario) -> TestResults {
    progress::heading(&format!("{}: {}", scenario.name, scenario.shows));
    let start = Instant::now();
    let result = (scenario.run)(cluster);
    let results = match &result {
        Ok(()) => {
            progress::note(&format!("passed {} in {}", scenario.name, human(start.elapsed())));
            TestResults { passed: 1, failures: Vec::new() }
        }
        Err(error) => {
            let mut namespaces = namespaces_of(cluster, scenario);
            namespaces.push(SYSTEM_NAMESPACE.to_owned());
            // The error is printed before and after the report, because the report can be long.
            let failed = format!("FAILED {} after {}: {error:#}", scenario.name, human(start.elapsed()));
            progress::note(&format!("{failed}\n"));
            progress::text(&report::collect(cluster, &namespaces));
            progress::note(&failed);
            TestResults::failure(failed)
        }
    };
    for namespace in namespaces_of(cluster, scenario) {
        // The next scenario has namespaces of its own, so a namespace that cannot be deleted does not harm it.
        drop(cluster.kubectl().delete(&["namespace", &namespace, "--wait=false"]));
    }
    results
}

/// Returns the names of the scenario's namespaces on the cluster.
fn namespaces_of(cluster: &Cluster, scenario: &Scenario) -> Vec<String> {
    let all = cluster.kubectl().list(&["namespaces", &namespaces::selector()]).unwrap_or_default();
    let names = all.iter().filter_map(|namespace| namespace["metadata"]["name"].as_str());
    names.filter(|name| belongs_to(name, scenario.name)).map(str::to_owned).collect()
}

fn belongs_to(namespace: &str, scenario: &str) -> bool {
    namespace.strip_prefix(scenario).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_rejected_with_the_list_of_names() {
        let error = select(&["nope".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("side-by-side"), "{error}");
    }

    #[test]
    fn a_namespace_belongs_to_the_scenario_whose_name_it_begins_with() {
        assert!(belongs_to("opt-in", "opt-in"));
        assert!(belongs_to("opt-in-restricted", "opt-in"));
        assert!(!belongs_to("opt-inner", "opt-in"));
    }
}
