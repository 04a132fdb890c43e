//! The webhook rolls, and one of its pods is killed, while pods are created as fast as it goes.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::process::Signal;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::workload::{self, is_injected, manifest};
use serde_json::{Value, json};

use crate::story::PATIENCE;

const NAME: &str = "webhook-rollout";
const WEBHOOK: &str = "certmint-webhook";
const ROLLOUTS: usize = 3;
/// How many create pods at the same time, and how many each in one run of kubectl.
const CREATORS: usize = 3;
const BATCH: usize = 10;

/// What became of the pods that were to be created.
#[derive(Debug, Default)]
struct Creations {
    created: usize,
    failed: Vec<String>,
}

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let ours = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let rolled = step(&format!("{ROLLOUTS} rollouts while pods are created"), || {
        while_creating(&kubectl, || {
            (0..ROLLOUTS).try_for_each(|_| {
                ours.run(&["rollout", "restart", &format!("deployment/{WEBHOOK}")])?;
                workload::rolled_out(&ours, WEBHOOK).map(drop)
            })
        })
    })?;
    let (created, failed) = (rolled.created, rolled.failed.len());
    note(&format!("{created} pods created, {failed} creations failed"));
    ensure!(rolled.failed.is_empty(), "{failed} creations failed, the first: {}", rolled.failed.concat());
    step("every pod was injected", || all_injected(&kubectl, created))?;

    let killed = step("one webhook is killed (SIGKILL) while pods are created", || {
        while_creating(&kubectl, || kill_one(cluster, &ours))
    })?;
    note(&format!("{} pods created, {} creations refused", killed.created, killed.failed.len()));
    step("whatever was not refused was injected", || all_injected(&kubectl, created + killed.created))?;
    for failure in &killed.failed {
        ensure!(
            failure.contains("failed calling webhook \"pods.certmint.dev\""),
            "a creation failed for another reason than the webhook: {failure}"
        );
    }
    Ok(())
}

/// Creates pods from several threads until `work` has ended.
fn while_creating(kubectl: &Kubectl<'_>, work: impl FnOnce() -> Result<()>) -> Result<Creations> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let creators: Vec<_> = (0..CREATORS)
            .map(|_| {
                scope.spawn(|| {
                    let mut creations = Creations::default();
                    while !over.load(Ordering::Relaxed) {
                        creations.batch(kubectl)?;
                    }
                    Ok::<_, anyhow::Error>(creations)
                })
            })
            .collect();
        let worked = work();
        over.store(true, Ordering::Relaxed);
        let mut all = Creations::default();
        for creator in creators {
            let creations = creator.join().map_err(|_| anyhow!("a creator panicked"))??;
            all.created += creations.created;
            all.failed.extend(creations.failed);
        }
        worked.map(|()| all)
    })
}

impl Creations {
    fn batch(&mut self, kubectl: &Kubectl<'_>) -> Result<()> {
        let mut create = kubectl.command(&["create", "--output=name", "--filename=-"]);
        create.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut create = create.spawn().context("cannot start kubectl")?;
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": vec![pod(); BATCH] });
        create.stdin.take().context("kubectl reads")?.write_all(list.to_string().as_bytes())?;
        let output = create.wait_with_output()?;
        let lines =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>();
        let created = lines(&output.stdout).len();
        let failed = lines(&output.stderr);
        ensure!(
            created == BATCH || !failed.is_empty(),
            "kubectl created {created} of {BATCH}, and is silent"
        );
        self.created += created;
        self.failed.extend(failed);
        Ok(())
    }
}

/// A pod that opted in and is never run.
fn pod() -> Value {
    let mut pod = manifest("pod", "never", "none", &json!({ "certmint.dev/inject": "true" }));
    pod["metadata"]["name"] = Value::Null;
    pod["metadata"]["generateName"] = "never-".into();
    pod["spec"]["schedulingGates"] = json!([{ "name": "example.com/never" }]);
    pod
}

fn all_injected(kubectl: &Kubectl<'_>, created: usize) -> Result<()> {
    let pods = kubectl.list(&["pods"])?;
    ensure!(pods.len() == created, "{created} pods were created, and there are {}", pods.len());
    let missed = pods.iter().filter(|pod| !is_injected(pod)).count();
    ensure!(missed == 0, "{missed} of {created} pods came out uninjected");
    Ok(())
}

/// Kills one webhook's process, and waits until kubelet has it running again.
fn kill_one(cluster: &Cluster, ours: &Kubectl<'_>) -> Result<()> {
    let pods = ours.list(&["pods", "--selector=app.kubernetes.io/component=webhook"])?;
    let pod = pods.first().context("there is no webhook")?;
    let name = pod["metadata"]["name"].as_str().context("a pod has a name")?;
    let before = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    cluster.signal(pod, "webhook", Signal::Kill)?;
    ours.until(&format!("pod/{name}"), "to be back", PATIENCE, |pod| {
        let restarted = pod["status"]["containerStatuses"][0]["restartCount"].as_u64() > before;
        (restarted && is_true(pod, "Ready")).then_some(())
    })
}
