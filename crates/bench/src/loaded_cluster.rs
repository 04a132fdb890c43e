//! A cluster with thousands of workloads that opted in, each with its Secret, and the measurements made while
//! it was filled. The rows `secrets`, `reissue`, `start` and `memory` use it.

mod objects;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::process::Memory;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::policy_file::PolicyFile;
use certmint_local_cluster::progress;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use serde_json::json;

use crate::audit::{Mark, RequestCounts};
use crate::common;
use crate::in_cluster::{CounterGrowth, CounterQuery, MetricQuery, ReadinessQuery, Task, Timings, Verb};
use crate::process::{CONTROLLER, Process};

/// Number of requests that the plain client sends at the same time. By default, the controller has as many workers.
const CLIENTS: usize = 16;
/// Namespace of the pattern workload. The plain client's Secrets are copies of its Secret.
const PATTERN_NAMESPACE: &str = "bench-pattern";
/// Address and port of the controller's metrics.
const METRICS_ADDRESS: &str = "127.0.0.1:9402";
/// Metric with the number of issued certificates.
const ISSUED_METRIC: &str = "certmint_certificates_issued_total";
/// Metric with the number of dropped Events.
const DROPPED_METRIC: &str = "certmint_events_dropped_total";
/// Metric that is 1 while the controller leads.
const LEADER_METRIC: &str = "certmint_leader";
/// Metric with the number of workloads that wait for the controller.
const QUEUE_METRIC: &str = "certmint_queue_depth";
/// Duration without work after which the controller counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// Trust domain that the policy is changed to. The change gives every certificate a new SPIFFE ID, and the controller
/// does not spread the reissues after such a change over an hour.
const TRUST_DOMAIN: &str = "bench.example.org";

/// A filled cluster, with the measurements made while it was filled.
#[derive(Debug)]
pub(crate) struct LoadedCluster {
    pub(crate) cluster: Cluster,
    /// Number of workloads before [`Self::add_workloads`].
    pub(crate) count: usize,
    /// Memory of the controller in a cluster without workloads.
    pub(crate) idle: Memory,
    /// Timings of the Secrets that the plain client created.
    pub(crate) plain_writes: Timings,
    /// Costs of the first issuance for all workloads.
    pub(crate) first: Issuance,
    /// Seconds from the scale-up of the controller's Deployment to the last Secret.
    pub(crate) from_scale_up: f64,
    /// Memory of the controller after the first issuance.
    pub(crate) managed: Memory,
}

/// Costs of issuing a certificate for every workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issuance {
    /// Growth of the number of issued certificates.
    pub(crate) growth: CounterGrowth,
    /// Processor time of the controller in seconds, until the last Event was written.
    pub(crate) cpu: f64,
    /// API requests of the controller in this time.
    pub(crate) requests: RequestCounts,
    /// Number of Events that the controller dropped because too many were waiting.
    pub(crate) dropped: f64,
}

impl LoadedCluster {
    /// Starts a cluster and fills it.
    pub(crate) fn start(cache: &Cache, quick: bool) -> Result<Self> {
        let count = if quick { 200 } else { 10_000 };
        let (cluster, figures) =
            common::start_cluster(cache, "loaded", |cluster| FillingFigures::of(cluster, count))?;
        let FillingFigures { idle, plain_writes, first, from_scale_up, managed } = figures;
        Ok(Self { cluster, count, idle, plain_writes, first, from_scale_up, managed })
    }

    /// Returns the controller's process.
    pub(crate) fn controller(&self) -> Result<Process<'_>> {
        controller(&self.cluster)
    }

    /// Lets the plain client replace as many Secrets as there are workloads.
    pub(crate) fn replace(&self) -> Result<Timings> {
        objects::write_copies(&self.cluster, &pattern_secret(&self.cluster)?, Verb::Update, 0..self.count)
    }

    /// Changes the policy so that every certificate is reissued. A second call would change nothing.
    pub(crate) fn reissue(&self) -> Result<Issuance> {
        let policy = PolicyFile::read(&self.cluster)?;
        let (mark, cpu) = (Mark::now(&self.cluster)?, self.controller()?.cpu()?);
        let (issued, dropped) =
            (metric_value(&self.cluster, ISSUED_METRIC)?, metric_value(&self.cluster, DROPPED_METRIC)?);
        let growth = thread::scope(|scope| {
            let watch = scope.spawn(|| wait_for_certificates(&self.cluster, issued, self.count));
            // The benchmark does not wait until the servers log the new policy, because reading their logs would
            // disturb the measurement.
            policy.start_change(&json!({ "trustDomain": TRUST_DOMAIN }))?;
            join(watch)
        })?;
        let requests = wait_for_last_write(&self.cluster, mark)?;
        let cpu = self.controller()?.cpu()? - cpu;
        Ok(Issuance {
            growth,
            cpu,
            requests,
            dropped: metric_value(&self.cluster, DROPPED_METRIC)? - dropped,
        })
    }

    /// Restarts the controller. Returns the seconds from the start of the new controller to its readiness.
    pub(crate) fn restart(&self) -> Result<f64> {
        installation::scale_controller_and_wait(&self.cluster, 0)?;
        scale_up(&self.cluster)?;
        let pid = wait_for_process(&self.cluster)?;
        let seconds = Task::Ready(ReadinessQuery { pid, address: METRICS_ADDRESS.to_owned() })
            .run_in_network_of(&self.cluster, pid)?;
        installation::scale_controller_and_wait(&self.cluster, 1)?;
        Ok(seconds)
    }

    /// Waits until the controller leads and has no work left.
    pub(crate) fn wait_until_idle(&self) -> Result<()> {
        let mut since = None;
        wait::until("the controller to be idle", DEFAULT_TIMEOUT, || {
            let (leader, queue) =
                (metric_value(&self.cluster, LEADER_METRIC)?, metric_value(&self.cluster, QUEUE_METRIC)?);
            if leader != 1.0 || queue != 0.0 {
                since = None;
                return Ok(Check::NotYet(format!("{LEADER_METRIC} {leader}, {QUEUE_METRIC} {queue}")));
            }
            let quiet = since.get_or_insert_with(Instant::now).elapsed();
            Ok(if quiet < IDLE_AFTER {
                Check::NotYet("it has just finished its work".to_owned())
            } else {
                Check::Passed(())
            })
        })
    }

    /// Adds `more` workloads, and waits for their Secrets.
    pub(crate) fn add_workloads(&self, more: usize) -> Result<()> {
        self.wait_until_idle()?;
        let (mark, issued) = (Mark::now(&self.cluster)?, metric_value(&self.cluster, ISSUED_METRIC)?);
        thread::scope(|scope| {
            let watch = scope.spawn(|| wait_for_certificates(&self.cluster, issued, more));
            objects::create_workloads(&self.cluster, self.count..self.count + more)?;
            join(watch)
        })?;
        wait_for_last_write(&self.cluster, mark).map(drop)
    }

    /// Adds `more` Secrets that the controller does not manage.
    pub(crate) fn add_foreign_secrets(&self, more: usize) -> Result<()> {
        // The copies with lower numbers exist already: the plain client created them while no controller ran.
        let numbers = self.count..self.count + more;
        objects::write_copies(&self.cluster, &pattern_secret(&self.cluster)?, Verb::Create, numbers).map(drop)
    }
}

/// Measurements made while the cluster was filled.
struct FillingFigures {
    idle: Memory,
    plain_writes: Timings,
    first: Issuance,
    from_scale_up: f64,
    managed: Memory,
}

impl FillingFigures {
    fn of(cluster: &Cluster, count: usize) -> Result<Self> {
        installation::install_and_wait(cluster, common::VALUES)?;
        let idle = controller(cluster)?.memory()?;
        create_pattern_workload(cluster)?;
        let pattern = pattern_secret(cluster)?;
        installation::scale_controller_and_wait(cluster, 0)?;
        progress::step(&format!("{count} workloads"), || objects::create_workloads(cluster, 0..count))?;
        let plain_writes = progress::step("as many Secrets, by a plain client", || {
            objects::write_copies(cluster, &pattern, Verb::Create, 0..count)
        })?;
        let (first, from_scale_up) =
            progress::step("a certificate for each, by the controller", || first_issuance(cluster, count))?;
        let managed = controller(cluster)?.memory()?;
        Ok(Self { idle, plain_writes, first, from_scale_up, managed })
    }
}

/// Starts a controller in a cluster whose workloads have no certificates yet. Returns the costs of their issuance, and
/// the seconds from the scale-up to the last certificate.
fn first_issuance(cluster: &Cluster, count: usize) -> Result<(Issuance, f64)> {
    let mark = Mark::now(cluster)?;
    let begun = Instant::now();
    scale_up(cluster)?;
    // The counter starts at 0, and may have grown before it is first read.
    let growth = wait_for_certificates(cluster, 0.0, count)?;
    let from_scale_up = begun.elapsed().as_secs_f64();
    let requests = wait_for_last_write(cluster, mark)?;
    let (cpu, dropped) = (controller(cluster)?.cpu()?, metric_value(cluster, DROPPED_METRIC)?);
    Ok((Issuance { growth, cpu, requests, dropped }, from_scale_up))
}

fn controller(cluster: &Cluster) -> Result<Process<'_>> {
    Process::only(cluster, CONTROLLER)
}

/// Creates the pattern workload, and waits for its Secret.
fn create_pattern_workload(cluster: &Cluster) -> Result<()> {
    let kubectl = create_namespace(cluster, PATTERN_NAMESPACE, &[])?;
    kubectl.apply(&objects::pattern_workload().to_string())?;
    wait::until("the first Secret", DEFAULT_TIMEOUT, || pattern_secret(cluster).map(|_| Check::Passed(())))
}

/// Returns the pattern workload's Secret.
fn pattern_secret(cluster: &Cluster) -> Result<serde_json::Value> {
    cluster.kubectl().namespace(PATTERN_NAMESPACE).get(&["secret", objects::PATTERN_SECRET])
}

fn scale_up(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.run(&["scale", "deployment/certmint-controller", "--replicas=1"]).map(drop)
}

/// Waits for the controller's process, and returns its number.
fn wait_for_process(cluster: &Cluster) -> Result<u32> {
    wait::until("the controller to start", DEFAULT_TIMEOUT, || Ok(Check::Passed(controller(cluster)?.pid())))
}

/// Returns the value of the controller's metric `name`.
fn metric_value(cluster: &Cluster, name: &str) -> Result<f64> {
    Task::Value(metric(name)).run_in_network_of(cluster, controller(cluster)?.pid())
}

/// Waits until the number of issued certificates has grown by `goal` from `from`.
fn wait_for_certificates(cluster: &Cluster, from: f64, goal: usize) -> Result<CounterGrowth> {
    let counter = CounterQuery { metric: metric(ISSUED_METRIC), from, goal: goal as f64 };
    Task::Growth(counter).run_in_network_of(cluster, wait_for_process(cluster)?)
}

fn metric(name: &str) -> MetricQuery {
    MetricQuery { address: METRICS_ADDRESS.to_owned(), name: name.to_owned() }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().ok().context("a thread of this program panicked")?
}

/// Waits until the controller makes no more requests, and counts its requests since `mark`. The controller writes its
/// Events after the Secrets.
fn wait_for_last_write(cluster: &Cluster, mark: Mark) -> Result<RequestCounts> {
    let (mut counts, mut counted_at) = (mark.since(cluster)?, Instant::now());
    wait::until("the last write of the controller", DEFAULT_TIMEOUT, || {
        if counted_at.elapsed() < IDLE_AFTER {
            return Ok(Check::NotYet("it has just written".to_owned()));
        }
        let new_counts = mark.since(cluster)?;
        counted_at = Instant::now();
        Ok(if std::mem::replace(&mut counts, new_counts) == new_counts {
            Check::Passed(new_counts)
        } else {
            Check::NotYet(format!("{new_counts:?}"))
        })
    })
}
