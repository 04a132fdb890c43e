//! A cluster full of workloads that opted in, each with its Secret; and how it became so.

mod objects;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use certmint_e2e::cluster::Cluster;
use certmint_e2e::kubectl::Kubectl;
use certmint_e2e::progress;
use certmint_e2e::story::installation::{self, SYSTEM_NAMESPACE};
use certmint_e2e::story::{PATIENCE, namespace};
use certmint_e2e::wait::{self, Observed};

use crate::audit::{Mark, Requests};
use crate::inside::{Climb, Counter, Pace, Ready, Task};
use crate::process::{Memory, Process};
use crate::{Run, shared};

/// As many as the controller works on at one time.
const CLIENTS: usize = 16;
/// Where the first workload is, of whose Secret the raw ones are copies.
const PATTERN: &str = "bench-pattern";
/// What the controller counts for each certificate.
const ISSUED: &str = "certmint_certificates_issued_total";
/// Where it counts.
const METRICS: &str = "127.0.0.1:9402";
/// A value of the policy that each certificate follows.
const DURATIONS: [&str; 2] = ["24h", "23h"];

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
}

impl Filled {
    /// Starts a cluster and fills it.
    pub(crate) fn start(run: &Run) -> Result<Self> {
        let cluster = shared::start(&run.cache, "filled")?;
        installation::install(&cluster, shared::VALUES)?;
        let count = if run.quick { 200 } else { 10_000 };
        let idle = controller(&cluster)?.memory()?;
        let pattern = pattern(&cluster)?;
        installation::scale_controller(&cluster, 0)?;
        progress::step(&format!("{count} workloads"), || objects::workloads(&cluster, 0..count))?;
        let raw = progress::step("as many Secrets, by a plain client", || {
            objects::copies(&cluster, &pattern, 0..count)
        })?;
        let mark = Mark::now(&cluster)?;
        let begun = Instant::now();
        let (first, from_scale_up) = progress::step("a certificate for each, by the controller", || {
            scale_up(&cluster)?;
            // It counts from 0 on, and may have issued before it is first looked at.
            let climb = climb(&cluster, Some(0.0), count)?;
            let from_scale_up = begun.elapsed().as_secs_f64();
            let requests = settled(&cluster, mark)?;
            Ok((Issuance { climb, cpu: controller(&cluster)?.cpu()?, requests }, from_scale_up))
        })?;
        let managed = controller(&cluster)?.memory()?;
        Ok(Self { cluster, count, idle, raw, first, from_scale_up, managed })
    }

    /// The controller.
    pub(crate) fn controller(&self) -> Result<Process<'_>> {
        controller(&self.cluster)
    }

    /// Changes the policy so that every certificate is issued anew.
    pub(crate) fn reissue(&self) -> Result<Issuance> {
        let (mark, before) = (Mark::now(&self.cluster)?, self.controller()?.cpu()?);
        let climb = thread::scope(|scope| {
            let climb = scope.spawn(|| climb(&self.cluster, None, self.count));
            change_policy(&self.cluster)?;
            joined(climb)
        })?;
        let requests = settled(&self.cluster, mark)?;
        Ok(Issuance { climb, cpu: self.controller()?.cpu()? - before, requests })
    }

    /// Seconds from a controller's start to its readiness.
    pub(crate) fn restart(&self) -> Result<f64> {
        installation::scale_controller(&self.cluster, 0)?;
        scale_up(&self.cluster)?;
        let pid = started(&self.cluster)?;
        let seconds =
            Task::Ready(Ready { pid, address: METRICS.to_owned() }).run_beside(&self.cluster, pid)?;
        installation::scale_controller(&self.cluster, 1)?;
        Ok(seconds)
    }

    /// More workloads, until there are `total`, each with its Secret.
    pub(crate) fn grow(&self, total: usize) -> Result<()> {
        let numbers = self.count..total;
        let mark = Mark::now(&self.cluster)?;
        thread::scope(|scope| {
            let climb = scope.spawn(|| climb(&self.cluster, None, numbers.len()));
            objects::workloads(&self.cluster, numbers.clone())?;
            joined(climb)
        })?;
        settled(&self.cluster, mark).map(drop)
    }

    /// More Secrets that are not the controller's, until there are `total`.
    pub(crate) fn crowd(&self, total: usize) -> Result<()> {
        let pattern = self.cluster.kubectl().namespace(PATTERN);
        let pattern = pattern.get(&["secret", objects::PATTERN_SECRET])?;
        objects::copies(&self.cluster, &pattern, self.count..total.max(self.count)).map(drop)
    }
}

fn controller(cluster: &Cluster) -> Result<Process<'_>> {
    Process::only(cluster, "^/certmint controller")
}

/// The Secret of a first workload.
fn pattern(cluster: &Cluster) -> Result<serde_json::Value> {
    let kubectl = namespace(cluster, PATTERN, &[])?;
    kubectl.apply(&objects::pattern().to_string())?;
    wait::until("the first Secret", PATIENCE, || {
        kubectl.get(&["secret", objects::PATTERN_SECRET]).map(Observed::Yes)
    })
}

fn scale_up(cluster: &Cluster) -> Result<()> {
    system(cluster).run(&["scale", "deployment/certmint-controller", "--replicas=1"]).map(drop)
}

/// The controller's number, once there is one.
fn started(cluster: &Cluster) -> Result<u32> {
    wait::until("the controller to start", PATIENCE, || Ok(Observed::Yes(controller(cluster)?.pid())))
}

/// Waits until the controller has issued that many more than `from`, or than it has now.
fn climb(cluster: &Cluster, from: Option<f64>, goal: usize) -> Result<Climb> {
    let counter = Counter { address: METRICS.to_owned(), name: ISSUED.to_owned(), from, goal: goal as f64 };
    Task::Counter(counter).run_beside(cluster, started(cluster)?)
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().ok().context("a thread of this program failed")?
}

/// The controller's requests since `mark`, once it makes no more: its Events are written after the Secrets.
fn settled(cluster: &Cluster, mark: Mark) -> Result<Requests> {
    let (mut last, mut at) = (mark.since(cluster)?, Instant::now());
    wait::until("the controller to have written all", PATIENCE, || {
        if at.elapsed() < Duration::from_secs(1) {
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

/// Gives certificates another length of life, by the policy that is read without a restart.
fn change_policy(cluster: &Cluster) -> Result<()> {
    let kubectl = system(cluster);
    let stored = kubectl.get(&["configmap/certmint-policy"])?;
    let policy = stored["data"]["policy.json"].as_str().context("there is no policy")?;
    let mut policy: serde_json::Value = serde_json::from_str(policy)?;
    let [one, other] = DURATIONS;
    let next = if policy["defaultDuration"] == one { other } else { one };
    policy["defaultDuration"] = next.into();
    let patch = serde_json::json!({ "data": { "policy.json": policy.to_string() } }).to_string();
    kubectl.run(&["patch", "configmap/certmint-policy", "--type=merge", "--patch", &patch])?;
    // Kubelet brings a changed ConfigMap at a pod's next sync, within about a minute; a changed pod has one at once.
    let part_of = "--selector=app.kubernetes.io/component=controller";
    kubectl.run(&["annotate", "pods", part_of, "--overwrite", &format!("bench/policy={next}")]).map(drop)
}

fn system(cluster: &Cluster) -> Kubectl<'_> {
    cluster.kubectl().namespace(SYSTEM_NAMESPACE)
}
