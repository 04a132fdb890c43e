//! A cluster full of workloads that opted in, each with its Secret; and how it became so.

mod objects;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::process::Memory;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::policy_file::PolicyFile;
use certmint_local_cluster::progress;
use certmint_local_cluster::wait::{self, DEFAULT_TIMEOUT, Observed};
use serde_json::json;

use crate::audit::{Mark, Requests};
use crate::inside::{Climb, Counter, Pace, Ready, Task, Value, Verb};
use crate::process::{CONTROLLER, Process};
use crate::shared;

/// As many as the controller works on at one time.
const CLIENTS: usize = 16;
/// Where the first workload is, of whose Secret the raw ones are copies.
const PATTERN: &str = "bench-pattern";
/// Where the controller counts.
const METRICS: &str = "127.0.0.1:9402";
/// Certificates.
const ISSUED: &str = "certmint_certificates_issued_total";
/// Events that found no room.
const DROPPED: &str = "certmint_events_dropped_total";
/// 1 while it leads.
const LEADER: &str = "certmint_leader";
/// Workloads that it has to look at.
const DUE: &str = "certmint_queue_depth";
/// Who does nothing for so long has nothing to do.
const QUIET: Duration = Duration::from_secs(1);
/// Another trust domain, so that every identity changes: what can wait would be spread over an hour.
const TRUST_DOMAIN: &str = "bench.example.org";

/// The cluster, with the figures of its way there.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) cluster: Cluster,
    /// How many workloads there were at first.
    pub(crate) count: usize,
    /// What the controller holds with nothing to do.
    pub(crate) idle: Memory,
    /// Secrets created by a plain client.
    pub(crate) raw: Pace,
    /// The controller's first way through all workloads.
    pub(crate) first: Issuance,
    /// From the controller's Deployment scaled up to the last Secret, in seconds.
    pub(crate) from_scale_up: f64,
    /// What it holds after that.
    pub(crate) managed: Memory,
}

/// Certificates issued for all workloads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issuance {
    /// The Secrets, from the first that was seen to the last.
    pub(crate) climb: Climb,
    /// The controller's processor time until the last Event was written too, in seconds.
    pub(crate) cpu: f64,
    /// Its requests until then.
    pub(crate) requests: Requests,
    /// Events that it did not write because too many waited.
    pub(crate) dropped: f64,
}

impl Filled {
    /// Starts a cluster and fills it.
    pub(crate) fn start(cache: &Cache, quick: bool) -> Result<Self> {
        let count = if quick { 200 } else { 10_000 };
        let (cluster, way) = shared::start(cache, "filled", |cluster| Way::of(cluster, count))?;
        let Way { idle, raw, first, from_scale_up, managed } = way;
        Ok(Self { cluster, count, idle, raw, first, from_scale_up, managed })
    }

    /// The controller.
    pub(crate) fn controller(&self) -> Result<Process<'_>> {
        controller(&self.cluster)
    }

    /// As many Secrets replaced by a plain client.
    pub(crate) fn replace(&self) -> Result<Pace> {
        objects::copies(&self.cluster, &pattern(&self.cluster)?, Verb::Update, 0..self.count)
    }

    /// Changes the policy so that every certificate is issued anew, which it does once.
    pub(crate) fn reissue(&self) -> Result<Issuance> {
        let policy = PolicyFile::of(&self.cluster)?;
        let (mark, cpu) = (Mark::now(&self.cluster)?, self.controller()?.cpu()?);
        let (issued, dropped) = (shown(&self.cluster, ISSUED)?, shown(&self.cluster, DROPPED)?);
        let climb = thread::scope(|scope| {
            let climb = scope.spawn(|| climb(&self.cluster, issued, self.count));
            // Waiting for servers to take it would mean reading their logs beside what is measured.
            policy.begin_change(&json!({ "trustDomain": TRUST_DOMAIN }))?;
            joined(climb)
        })?;
        let requests = settled(&self.cluster, mark)?;
        let cpu = self.controller()?.cpu()? - cpu;
        Ok(Issuance { climb, cpu, requests, dropped: shown(&self.cluster, DROPPED)? - dropped })
    }

    /// Seconds from a new controller's start to its readiness.
    pub(crate) fn restart(&self) -> Result<f64> {
        installation::scale_controller(&self.cluster, 0)?;
        scale_up(&self.cluster)?;
        let pid = started(&self.cluster)?;
        let seconds =
            Task::Ready(Ready { pid, address: METRICS.to_owned() }).run_beside(&self.cluster, pid)?;
        installation::scale_controller(&self.cluster, 1)?;
        Ok(seconds)
    }

    /// Waits until the controller leads and has looked at everything.
    pub(crate) fn rested(&self) -> Result<()> {
        let mut since = None;
        wait::until("the controller to have nothing to do", DEFAULT_TIMEOUT, || {
            let (leads, due) = (shown(&self.cluster, LEADER)?, shown(&self.cluster, DUE)?);
            if leads != 1.0 || due != 0.0 {
                since = None;
                return Ok(Observed::NotYet(format!("{LEADER} {leads}, {DUE} {due}")));
            }
            let quiet = since.get_or_insert_with(Instant::now).elapsed();
            Ok(if quiet < QUIET {
                Observed::NotYet("it has just rested".to_owned())
            } else {
                Observed::Yes(())
            })
        })
    }

    /// So many more workloads, each with its Secret.
    pub(crate) fn grow(&self, more: usize) -> Result<()> {
        self.rested()?;
        let (mark, issued) = (Mark::now(&self.cluster)?, shown(&self.cluster, ISSUED)?);
        thread::scope(|scope| {
            let climb = scope.spawn(|| climb(&self.cluster, issued, more));
            objects::workloads(&self.cluster, self.count..self.count + more)?;
            joined(climb)
        })?;
        settled(&self.cluster, mark).map(drop)
    }

    /// So many more Secrets that are not the controller's.
    pub(crate) fn crowd(&self, more: usize) -> Result<()> {
        // As many as there are workloads came while no controller was.
        let numbers = self.count..self.count + more;
        objects::copies(&self.cluster, &pattern(&self.cluster)?, Verb::Create, numbers).map(drop)
    }
}

/// The figures of the way.
struct Way {
    idle: Memory,
    raw: Pace,
    first: Issuance,
    from_scale_up: f64,
    managed: Memory,
}

impl Way {
    fn of(cluster: &Cluster, count: usize) -> Result<Self> {
        installation::install(cluster, shared::VALUES)?;
        let idle = controller(cluster)?.memory()?;
        first_workload(cluster)?;
        let pattern = pattern(cluster)?;
        installation::scale_controller(cluster, 0)?;
        progress::step(&format!("{count} workloads"), || objects::workloads(cluster, 0..count))?;
        let raw = progress::step("as many Secrets, by a plain client", || {
            objects::copies(cluster, &pattern, Verb::Create, 0..count)
        })?;
        let (first, from_scale_up) =
            progress::step("a certificate for each, by the controller", || first_issuance(cluster, count))?;
        let managed = controller(cluster)?.memory()?;
        Ok(Self { idle, raw, first, from_scale_up, managed })
    }
}

/// The work of a new controller that finds nothing issued, and the seconds from its order to the last certificate.
fn first_issuance(cluster: &Cluster, count: usize) -> Result<(Issuance, f64)> {
    let mark = Mark::now(cluster)?;
    let begun = Instant::now();
    scale_up(cluster)?;
    // It counts from 0 on, and may have issued before it is first looked at.
    let climb = climb(cluster, 0.0, count)?;
    let from_scale_up = begun.elapsed().as_secs_f64();
    let requests = settled(cluster, mark)?;
    let (cpu, dropped) = (controller(cluster)?.cpu()?, shown(cluster, DROPPED)?);
    Ok((Issuance { climb, cpu, requests, dropped }, from_scale_up))
}

fn controller(cluster: &Cluster) -> Result<Process<'_>> {
    Process::only(cluster, CONTROLLER)
}

/// Returns when the Secret of a first workload is there.
fn first_workload(cluster: &Cluster) -> Result<()> {
    let kubectl = namespace(cluster, PATTERN, &[])?;
    kubectl.apply(&objects::pattern().to_string())?;
    wait::until("the first Secret", DEFAULT_TIMEOUT, || pattern(cluster).map(|_| Observed::Yes(())))
}

/// That Secret.
fn pattern(cluster: &Cluster) -> Result<serde_json::Value> {
    cluster.kubectl().namespace(PATTERN).get(&["secret", objects::PATTERN_SECRET])
}

fn scale_up(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.run(&["scale", "deployment/certmint-controller", "--replicas=1"]).map(drop)
}

/// The controller's number, once there is one.
fn started(cluster: &Cluster) -> Result<u32> {
    wait::until("the controller to start", DEFAULT_TIMEOUT, || Ok(Observed::Yes(controller(cluster)?.pid())))
}

/// What the controller shows under that name.
fn shown(cluster: &Cluster, name: &str) -> Result<f64> {
    Task::Value(metric(name)).run_beside(cluster, controller(cluster)?.pid())
}

/// Waits until the controller has issued that many more than `from`.
fn climb(cluster: &Cluster, from: f64, goal: usize) -> Result<Climb> {
    let counter = Counter { value: metric(ISSUED), from, goal: goal as f64 };
    Task::Climb(counter).run_beside(cluster, started(cluster)?)
}

fn metric(name: &str) -> Value {
    Value { address: METRICS.to_owned(), name: name.to_owned() }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().ok().context("a thread of this program failed")?
}

/// The controller's requests since `mark`, once it makes no more: its Events are written after the Secrets.
fn settled(cluster: &Cluster, mark: Mark) -> Result<Requests> {
    let (mut last, mut at) = (mark.since(cluster)?, Instant::now());
    wait::until("the controller to have written all", DEFAULT_TIMEOUT, || {
        if at.elapsed() < QUIET {
            return Ok(Observed::NotYet("it has just written".to_owned()));
        }
        let now = mark.since(cluster)?;
        at = Instant::now();
        Ok(if std::mem::replace(&mut last, now) == now {
            Observed::Yes(now)
        } else {
            Observed::NotYet(format!("{now:?}"))
        })
    })
}
