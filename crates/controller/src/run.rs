//! Starts the tasks of the controller, and ends them on shutdown.

mod tasks;

use std::sync::Arc;

use certmint_contract::ErrorCode;
use certmint_server::observability::Observability;
use certmint_server::{BindError, bind, shutdown};
use kube::Client;
use tokio::sync::watch;

use self::tasks::TaskContext;
use crate::api;
use crate::args::{Args, ControllerSettings};
use crate::ca::Ca;
use crate::clock::{self, Clock};
use crate::events::{self, Events};
use crate::leadership;
use crate::metrics::{self, Metrics};
use crate::observe::{self, Cache};
use crate::queue::Queue;
use crate::supervisor::TaskSet;

/// Reason why the controller does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address of the API server, or the credentials for it, are not known.
    #[error("cannot reach the API server: {0}; run in a pod with a service account, or set KUBECONFIG")]
    NoCluster(Box<kube::Error>),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// A task ended that should never end.
    #[error("the task \"{0}\" ended, which should never happen; see the log before this line")]
    TaskEnded(&'static str),
}

impl RunError {
    /// Returns the code under which the error is reported.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoCluster(_) | Self::Listen(_) | Self::Signals(_) => ErrorCode::InvalidSettings,
            Self::TaskEnded(_) => ErrorCode::Internal,
        }
    }
}

/// Runs until SIGTERM or SIGINT, then ends the work in progress and releases the Lease.
///
/// # Errors
/// When the configuration for the API server is missing or cannot be used, signals cannot be received, a listener cannot
/// be opened, or a task ends that should not.
pub async fn run(args: Args) -> Result<(), RunError> {
    let settings = ControllerSettings::from(args);
    let shutdown = shutdown::on_signal().map_err(RunError::Signals)?;
    let first = settings.policy.wait_for_first(settings.health_listen, &shutdown).await?;
    let Some(policy) = first else { return Ok(()) };
    let (metrics, mut registry) = Metrics::new();
    let clock = Clock::default();
    let client = metrics::counted(clock::with_clock(connect().await?, clock.clone()), metrics.clone());
    let listener = bind(settings.listen)?;
    let health = bind(settings.health_listen)?;
    let (events, backlog) = Events::new(&settings.identity);
    let events = events.with_dropped_counter(metrics.events_dropped.clone());
    let (ca, _) = Ca::unknown();
    let terms = watch::Sender::new(None);
    let sources = observe::watch_sources(&settings.watch_namespaces);
    let queue = Arc::new(Queue::closed());
    let context = TaskContext {
        fenced: leadership::fenced(client.clone(), terms.subscribe()),
        policy: watch::Sender::new(Arc::new(policy)),
        terms,
        cache: Cache::new(Arc::clone(&queue), sources.len()),
        queue,
        client,
        clock,
        settings,
        ca,
        metrics,
        events,
        shutdown: shutdown.clone(),
    };
    tracing::info!(listen = %context.settings.listen, identity = context.settings.identity, "controller started");

    // On shutdown, `run` waits until the orderly tasks have ended, and drops the other tasks.
    let (mut orderly, mut others) = (TaskSet::default(), TaskSet::default());
    context.start_watches(&mut others, sources);
    context.start_left_out_reporter(&mut others);
    context.start_missed_pods(&mut others);
    context.start_standalone_pods(&mut others);
    others.start("events", events::write(context.client.clone(), backlog));
    context.start_ca(&mut others);
    let key_pair = context.start_own_certificates(&mut others);
    certmint_server::metrics::register(&mut registry, Arc::clone(&key_pair));
    let controller_health = context.start_health(&mut others, &key_pair);
    let probes = Observability { registry: Arc::new(registry), ready: move || controller_health.ready() };
    orderly.start("policy", context.follow_policy());
    context.start_leading(&mut orderly);
    context.start_servers(&mut orderly, key_pair, (listener, health), probes);

    let ended = tokio::select! {
        () = shutdown.cancelled() => None,
        name = orderly.wait_for_first_end() => Some(name),
        name = others.wait_for_first_end() => Some(name),
    };
    // On shutdown a task may end before this select sees that the token is cancelled.
    let failed = ended.filter(|_| !shutdown.is_cancelled());
    shutdown.cancel();
    orderly.wait_for_all().await;
    tracing::info!("controller ended");
    failed.map_or(Ok(()), |name| Err(RunError::TaskEnded(name)))
}

/// Creates the client for the API server.
async fn connect() -> Result<Client, RunError> {
    let no_cluster = |error: kube::Error| RunError::NoCluster(Box::new(error));
    let config = kube::Config::infer().await.map_err(|why| no_cluster(kube::Error::InferConfig(why)))?;
    api::client(config).map_err(no_cluster)
}
