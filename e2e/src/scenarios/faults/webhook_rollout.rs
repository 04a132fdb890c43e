//! The scenario `webhook-rollout` creates opted-in pods from several threads, while the webhook rolls out three times
//! and while one of its pods is killed.
//!
//! During the rollouts, it asserts that no pod is rejected and every pod is injected. After the kill, pods may be
//! rejected because the webhook cannot be called, but all others must be injected.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::process::Signal;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::workload::{self, is_injected, manifest};
use serde_json::{Value, json};

const NAME: &str = "webhook-rollout";
const WEBHOOK: &str = "certmint-webhook";
const ROLLOUTS: usize = 3;
/// Number of threads that create pods.
const CREATORS: usize = 3;
/// Number of pods in one run of kubectl.
const BATCH: usize = 10;

/// Results of the attempts to create pods.
#[derive(Debug, Default)]
struct Creations {
    created: usize,
    /// Lines that kubectl printed about pods that were not created.
    failed: Vec<String>,
}

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let during_rollouts =
        step(&format!("the webhook rolls out {ROLLOUTS} times while pods are created"), || {
            while_creating(&kubectl, || {
                (0..ROLLOUTS).try_for_each(|_| {
                    system.run(&["rollout", "restart", &format!("deployment/{WEBHOOK}")])?;
                    workload::wait_for_rollout(&system, WEBHOOK).map(drop)
                })
            })
        })?;
    let (created, failed) = (during_rollouts.created, during_rollouts.failed.len());
    note(&format!("{created} pods created, {failed} creations failed"));
    ensure!(
        during_rollouts.failed.is_empty(),
        "{failed} creations failed: {}",
        during_rollouts.failed.concat()
    );
    step("every pod is injected", || assert_all_injected(&kubectl, created))?;

    let after_kill = step("one webhook is killed (SIGKILL) while pods are created", || {
        while_creating(&kubectl, || kill_webhook_and_wait(cluster, &system))
    })?;
    note(&format!("{} pods created, {} creations rejected", after_kill.created, after_kill.failed.len()));
    step("every pod that was not rejected is injected", || {
        assert_all_injected(&kubectl, created + after_kill.created)
    })?;
    for failure in &after_kill.failed {
        ensure!(
            failure.contains("failed calling webhook \"pods.certmint.dev\""),
            "a creation failed for another reason than the webhook: {failure}"
        );
    }
    Ok(())
}

/// Creates pods from [`CREATORS`] threads until `work` has ended, and returns the results.
fn while_creating(kubectl: &Kubectl<'_>, work: impl FnOnce() -> Result<()>) -> Result<Creations> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let creators: Vec<_> = (0..CREATORS)
            .map(|_| {
                scope.spawn(|| {
                    let mut creations = Creations::default();
                    while !stop.load(Ordering::Relaxed) {
                        creations.add_batch(kubectl)?;
                    }
                    Ok::<_, anyhow::Error>(creations)
                })
            })
            .collect();
        let work_result = work();
        stop.store(true, Ordering::Relaxed);
        let mut total = Creations::default();
        for creator in creators {
            let creations = creator.join().map_err(|_| anyhow!("a creating thread panicked"))??;
            total.created += creations.created;
            total.failed.extend(creations.failed);
        }
        work_result.map(|()| total)
    })
}

impl Creations {
    /// Creates one batch of pods with kubectl, and adds the results.
    fn add_batch(&mut self, kubectl: &Kubectl<'_>) -> Result<()> {
        let mut create = kubectl.command(&["create", "--output=name", "--filename=-"]);
        create.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut create = create.spawn().context("cannot start kubectl")?;
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": vec![pod(); BATCH] });
        let mut input = create.stdin.take().context("kubectl has no input")?;
        input.write_all(list.to_string().as_bytes())?;
        // kubectl reads its input to the end. Dropping the pipe ends the input.
        drop(input);
        let output = create.wait_with_output()?;
        let lines =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>();
        let created = lines(&output.stdout).len();
        let failed = lines(&output.stderr);
        ensure!(
            created == BATCH || !failed.is_empty(),
            "kubectl created {created} of {BATCH} pods and printed no error"
        );
        self.created += created;
        self.failed.extend(failed);
        Ok(())
    }
}

/// Returns an opted-in pod that never runs, because it has a scheduling gate.
fn pod() -> Value {
    let mut pod = manifest("pod", "never", "none", &json!({ "certmint.dev/inject": "true" }));
    pod["metadata"]["name"] = Value::Null;
    pod["metadata"]["generateName"] = "never-".into();
    pod["spec"]["schedulingGates"] = json!([{ "name": "example.com/never" }]);
    pod
}

/// Asserts that the namespace has `created` pods, and that all are injected.
fn assert_all_injected(kubectl: &Kubectl<'_>, created: usize) -> Result<()> {
    let pods = kubectl.list(&["pods"])?;
    ensure!(pods.len() == created, "{created} pods were created, but the namespace has {}", pods.len());
    let not_injected = pods.iter().filter(|pod| !is_injected(pod)).count();
    ensure!(not_injected == 0, "{not_injected} of {created} pods are not injected");
    Ok(())
}

/// Kills one webhook's process, and waits until the kubelet has restarted it.
fn kill_webhook_and_wait(cluster: &Cluster, system: &Kubectl<'_>) -> Result<()> {
    let pods = system.list(&["pods", "--selector=app.kubernetes.io/component=webhook"])?;
    let pod = pods.first().context("there is no pod of the webhook")?;
    let name = pod["metadata"]["name"].as_str().context("the pod has no name")?;
    let before = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    cluster.signal(pod, "webhook", Signal::Kill)?;
    system.wait_for(&format!("pod/{name}"), "to be restarted and ready", DEFAULT_TIMEOUT, |pod| {
        let restarted = pod["status"]["containerStatuses"][0]["restartCount"].as_u64() > before;
        (restarted && is_true(pod, "Ready")).then_some(())
    })
}
