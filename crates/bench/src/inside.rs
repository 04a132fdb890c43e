//! What this program does within a cluster's network, started by itself: it makes load there, or watches from there.
//!
//! The task comes as JSON on standard input, what was seen goes as JSON to standard output.

mod api;
mod bundles;
mod connection;
mod probe;
mod rollout;
mod starts;

use std::ops::Range;
use std::process::Command;

use anyhow::{Context as _, Result};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::command;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::statistics::{median, quantile};

/// The argument by which the program knows that it is inside.
const ARGUMENT: &str = "inside";

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    Write(Write),
    Rounds(Rounds),
    Tokens(Tokens),
    Bundles(Bundles),
    Value(Value),
    Climb(Counter),
    Ready(Ready),
    Starts(Starts),
    Rollout(Rollout),
}

/// Objects to be written. In path and body, `{index}` is an object's number, `{ten}` and `{hundred}` the number of
/// the ten and hundred that it is one of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) verb: Verb,
    pub(crate) path: String,
    pub(crate) body: String,
    /// Their numbers.
    pub(crate) numbers: Range<usize>,
    /// Only each so-manieth of them.
    pub(crate) step: usize,
    /// How many are under way at one time.
    pub(crate) clients: usize,
}

/// Calls to the API server. Each round is calls that follow each other; what is timed is a round.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rounds {
    pub(crate) rounds: Vec<Vec<Call>>,
    /// How many rounds are under way at one time.
    pub(crate) clients: usize,
}

/// A call to the API server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) path: String,
    /// Nothing, where there is none.
    pub(crate) body: String,
    pub(crate) answer: Answer,
}

/// As Kubernetes names what is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verb {
    Get,
    Create,
    Update,
}

/// What the API server is to answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// All of it.
    Whole,
    /// An object's metadata.
    Metadata,
    /// The metadata of a list's objects.
    MetadataList,
}

/// Tokens that nobody has shown yet, as kubelet asks for them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tokens {
    /// Whose they are, in turn.
    pub(crate) pods: Vec<Pod>,
    pub(crate) count: usize,
    /// How many are under way at one time.
    pub(crate) clients: usize,
}

/// A pod with the service account that pods have by default.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Requests to the issuance API, each with a token and over a TLS connection of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bundles {
    /// Address and port.
    pub(crate) address: String,
    /// The name in the server's certificate.
    pub(crate) host: String,
    /// The roots, in PEM.
    pub(crate) roots: String,
    pub(crate) tokens: Vec<String>,
    pub(crate) clients: usize,
}

/// A number at `/metrics`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Value {
    /// Address and port.
    pub(crate) address: String,
    /// The metric's name; its labels are summed up.
    pub(crate) name: String,
}

/// A counter, watched from its first change until it has grown by `goal`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) value: Value,
    /// What it grows from.
    pub(crate) from: f64,
    pub(crate) goal: f64,
}

/// A process whose `/readyz` is awaited.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    /// Address and port.
    pub(crate) address: String,
}

/// certmint-fetch, started beside one that runs in a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Starts {
    /// The one that runs.
    pub(crate) pid: u32,
    /// Each start's.
    pub(crate) starts: Vec<Start>,
}

/// What a start finds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Start {
    /// The workload's Secret.
    Secret,
    /// No Secret, and this token to ask the issuance API with.
    Token(String),
    /// All files, by the one that runs: it ends at once.
    Files,
}

/// A Deployment of no pods, scaled up and down again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rollout {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) pods: usize,
}

/// What a [`Rollout`] took until the last pod was ready.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rolled {
    pub(crate) seconds: f64,
    /// Of all processors together, whoever used them.
    pub(crate) cpu_seconds: f64,
}

/// How repeated work went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// How many times it was done.
    pub(crate) count: usize,
    /// Within how many seconds.
    pub(crate) seconds: f64,
    /// Milliseconds that one took.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
}

/// A counter's way up, as it was seen.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Climb {
    /// By how much it grew.
    pub(crate) by: f64,
    /// Within how many seconds.
    pub(crate) seconds: f64,
}

impl Pod {
    /// As kubectl shows it.
    pub(crate) fn of(pod: &serde_json::Value) -> Result<Self> {
        let field = |name: &str| {
            let text = pod["metadata"][name].as_str().map(str::to_owned);
            text.with_context(|| format!("a pod without a {name}"))
        };
        Ok(Self { namespace: field("namespace")?, name: field("name")?, uid: field("uid")? })
    }
}

impl Pace {
    /// Each second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    fn of(milliseconds: Vec<f64>, seconds: f64) -> Self {
        let count = milliseconds.len();
        Self { count, seconds, p50: median(milliseconds.clone()), p99: quantile(milliseconds, 0.99) }
    }
}

impl Climb {
    /// Each second.
    pub(crate) fn rate(&self) -> f64 {
        self.by / self.seconds
    }
}

impl Task {
    /// Has it done within the cluster.
    pub(crate) fn run<T: DeserializeOwned>(&self, cluster: &Cluster) -> Result<T> {
        self.run_by(&mut cluster.command(&own_program()?))
    }

    /// Has it done within the cluster, in the network of that process.
    pub(crate) fn run_beside<T: DeserializeOwned>(&self, cluster: &Cluster, pid: u32) -> Result<T> {
        let mut command = cluster.command("nsenter");
        command.args(["--target", &pid.to_string(), "--net", &own_program()?]);
        self.run_by(&mut command)
    }

    fn run_by<T: DeserializeOwned>(&self, command: &mut Command) -> Result<T> {
        let task = serde_json::to_string(self)?;
        let seen = command::output_with_input(command.arg(ARGUMENT), &task)?;
        serde_json::from_str(&seen).with_context(|| format!("not what was asked for: {seen}"))
    }

    async fn perform(self) -> Result<String> {
        Ok(match self {
            Self::Write(write) => serde_json::to_string(&api::write(write).await?)?,
            Self::Rounds(rounds) => serde_json::to_string(&api::rounds(rounds).await?)?,
            Self::Tokens(tokens) => serde_json::to_string(&api::tokens(&tokens).await?)?,
            Self::Bundles(bundles) => serde_json::to_string(&bundles::ask(bundles).await?)?,
            Self::Value(value) => serde_json::to_string(&probe::value(&value).await?)?,
            Self::Climb(counter) => serde_json::to_string(&probe::climb(&counter).await?)?,
            Self::Ready(ready) => serde_json::to_string(&probe::ready(&ready).await?)?,
            Self::Starts(starts) => serde_json::to_string(&starts::measure(&starts)?)?,
            Self::Rollout(rollout) => serde_json::to_string(&rollout::measure(&rollout).await?)?,
        })
    }
}

/// Does what it was started for, if it was started inside.
pub(crate) fn play() -> Option<Result<()>> {
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
