//! Tasks that this program runs inside a cluster's network, to create load or to observe. For each task, the program
//! starts a second process of itself there.
//!
//! The second process reads the task as JSON from standard input, and writes the result as JSON to standard output.

mod api;
mod bundles;
mod connection;
mod fetch_starts;
mod probe;
mod rollout;

use std::ops::Range;
use std::process::Command;

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::command;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::statistics::{median, quantile};

/// First argument of a process that runs a task.
const ARGUMENT: &str = "in-cluster-task";

/// A task to run inside the cluster's network.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    Write(ObjectWrites),
    Rounds(CallRounds),
    Tokens(TokenRequests),
    Bundles(BundleRequests),
    Value(MetricQuery),
    Growth(CounterQuery),
    Ready(ReadinessQuery),
    Starts(FetchStarts),
    Rollout(Rollout),
}

/// Objects to write. In path and body, `{index}` stands for the object's number, `{ten}` and `{hundred}` for that
/// number divided by ten and by a hundred, rounded down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ObjectWrites {
    pub(crate) verb: Verb,
    pub(crate) path: String,
    pub(crate) body: String,
    /// Range of the objects' numbers.
    pub(crate) numbers: Range<usize>,
    /// Difference between the numbers of an object and of the next one.
    pub(crate) step: usize,
    /// Number of requests at the same time.
    pub(crate) clients: usize,
}

/// Calls to the API server in rounds. Each call of a round starts after the end of the previous call. The measured time
/// is that of the round.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CallRounds {
    pub(crate) rounds: Vec<Vec<ApiCall>>,
    /// Number of rounds at the same time.
    pub(crate) clients: usize,
}

/// A call to the API server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ApiCall {
    pub(crate) verb: Verb,
    pub(crate) path: String,
    /// Body of the request; empty for none.
    pub(crate) body: String,
    pub(crate) response_form: ResponseForm,
}

/// Kubernetes' name of an operation on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verb {
    Get,
    Create,
    Update,
}

/// Representation that the client accepts in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ResponseForm {
    /// The whole object or list.
    Whole,
    /// The metadata of one object.
    Metadata,
    /// The metadata of each object in a list.
    MetadataList,
}

/// Requests for new tokens, as the kubelet makes them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenRequests {
    /// Pods that the tokens are bound to, in turn.
    pub(crate) pods: Vec<Pod>,
    pub(crate) count: usize,
    /// Number of requests at the same time.
    pub(crate) clients: usize,
}

/// A pod that runs under the service account `default`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Requests to the issuance API, one for each token. Each uses a new TLS connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BundleRequests {
    /// Address and port of the server.
    pub(crate) address: String,
    /// Expected name in the server's certificate.
    pub(crate) host: String,
    /// Trust bundle, in PEM.
    pub(crate) roots: String,
    pub(crate) tokens: Vec<String>,
    pub(crate) clients: usize,
}

/// A metric to read from `/metrics`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MetricQuery {
    /// Address and port of the server.
    pub(crate) address: String,
    /// Name of the metric. The values of all its label sets are added.
    pub(crate) name: String,
}

/// A counter to watch until it has grown by `goal`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CounterQuery {
    pub(crate) metric: MetricQuery,
    /// Value of the counter before the first change.
    pub(crate) from: f64,
    pub(crate) goal: f64,
}

/// A process to watch until its `/readyz` answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadinessQuery {
    pub(crate) pid: u32,
    /// Address and port of the process's health endpoint.
    pub(crate) address: String,
}

/// Starts of certmint-fetch in the namespaces of a running certmint-fetch container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FetchStarts {
    /// Process in the running container.
    pub(crate) pid: u32,
    /// Situation of each start.
    pub(crate) starts: Vec<StartCase>,
}

/// Situation in which certmint-fetch starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum StartCase {
    /// The workload's Secret is mounted.
    Secret,
    /// No Secret is mounted. The program asks the issuance API with this token.
    Token(String),
    /// All files are in place already, so that the program ends at once.
    Files,
}

/// A Deployment without pods that is scaled up and down again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rollout {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) pods: usize,
}

/// Cost of a [`Rollout`] until its last pod was ready.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RolloutTime {
    pub(crate) seconds: f64,
    /// Processor time of the whole machine.
    pub(crate) cpu_seconds: f64,
}

/// Timings of repeated work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Timings {
    /// Number of repetitions.
    pub(crate) count: usize,
    /// Duration of all repetitions together, in seconds.
    pub(crate) seconds: f64,
    /// Median duration of one repetition, in milliseconds.
    pub(crate) p50: f64,
    /// 99th percentile of the duration of one repetition, in milliseconds.
    pub(crate) p99: f64,
}

/// Observed growth of a counter.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct CounterGrowth {
    /// Difference between the last and the first value.
    pub(crate) by: f64,
    /// Duration of the growth, in seconds.
    pub(crate) seconds: f64,
}

impl Pod {
    /// Reads namespace, name and uid from a pod's JSON.
    pub(crate) fn of(pod: &serde_json::Value) -> Result<Self> {
        let field = |name: &str| {
            let text = pod["metadata"][name].as_str().map(str::to_owned);
            text.with_context(|| format!("the pod has no {name}"))
        };
        Ok(Self { namespace: field("namespace")?, name: field("name")?, uid: field("uid")? })
    }
}

impl Timings {
    /// Returns the number of repetitions in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    fn of(milliseconds: Vec<f64>, seconds: f64) -> Self {
        let count = milliseconds.len();
        Self { count, seconds, p50: median(milliseconds.clone()), p99: quantile(milliseconds, 0.99) }
    }
}

impl CounterGrowth {
    /// Returns the growth in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.by / self.seconds
    }
}

impl Task {
    /// Runs the task in the cluster's network.
    pub(crate) fn run<T: DeserializeOwned>(&self, cluster: &Cluster) -> Result<T> {
        self.run_with(&mut cluster.command(&own_program()?))
    }

    /// Runs the task in the network namespace of process `pid`.
    pub(crate) fn run_in_network_of<T: DeserializeOwned>(&self, cluster: &Cluster, pid: u32) -> Result<T> {
        let mut command = cluster.command("nsenter");
        command.args(["--target", &pid.to_string(), "--net", &own_program()?]);
        self.run_with(&mut command)
    }

    fn run_with<T: DeserializeOwned>(&self, command: &mut Command) -> Result<T> {
        let task = serde_json::to_string(self)?;
        let printed = command::output_with_input(command.arg(ARGUMENT), &task)?;
        serde_json::from_str(&printed).with_context(|| format!("the task returned something else: {printed}"))
    }

    async fn perform(self) -> Result<String> {
        Ok(match self {
            Self::Write(write) => serde_json::to_string(&api::write(write).await?)?,
            Self::Rounds(rounds) => serde_json::to_string(&api::rounds(rounds).await?)?,
            Self::Tokens(tokens) => serde_json::to_string(&api::tokens(&tokens).await?)?,
            Self::Bundles(bundles) => serde_json::to_string(&bundles::request_bundles(bundles).await?)?,
            Self::Value(value) => serde_json::to_string(&probe::read_metric(&value).await?)?,
            Self::Growth(counter) => serde_json::to_string(&probe::measure_growth(&counter).await?)?,
            Self::Ready(ready) => serde_json::to_string(&probe::measure_readiness(&ready).await?)?,
            Self::Starts(starts) => serde_json::to_string(&fetch_starts::measure(&starts)?)?,
            Self::Rollout(rollout) => serde_json::to_string(&rollout::measure(&rollout).await?)?,
        })
    }
}

/// Runs a task if this process was started for one, and returns `None` otherwise.
pub(crate) fn run_as_task() -> Option<Result<()>> {
    (std::env::args().nth(1)? == ARGUMENT).then(|| {
        let task: Task = serde_json::from_reader(std::io::stdin())?;
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        println!("{}", runtime.block_on(task.perform())?);
        Ok(())
    })
}

fn own_program() -> Result<String> {
    Ok(std::env::current_exe()?.to_string_lossy().into_owned())
}
