//! The running controller: which tasks there are, and how they end.

mod parts;

use self::parts::Parts;
use crate::{
    api,
    args::{Args, Settings},
    ca::Ca,
    clock::{self, Clock},
    events::{self, Events},
    leadership,
    metrics::{self, Metrics},
    observe::{self, Observed},
    queue::Queue,
    supervise::Supervised,
};
use certmint_contract::ErrorCode;
use certmint_tls_server::{BindError, bind, observability::Observability, shutdown};
use kube::Client;
use std::sync::Arc;
use tokio::sync::watch;

/// Why the controller does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It is not known where the API server is, or how to prove who we are.
    #[error("no way to the API server: {0}; run in a pod with a service account, or set KUBECONFIG")]
    NoCluster(Box<kube::Error>),
    /// An address is not to be had.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// A task ended that is meant to run for ever.
    #[error("the task \"{0}\" ended, which it never should; see the log before this line")]
    TaskEnded(&'static str),
}

impl RunError {
    /// The code it is reported under.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoCluster(_) | Self::Listen(_) | Self::Signals(_) => ErrorCode::InvalidSettings,
            Self::TaskEnded(_) => ErrorCode::Internal,
        }
    }
}

/// Runs until SIGTERM or SIGINT, then ends what is under way and gives up the lease.
///
/// # Errors
/// When there is no way to the API server, a listener cannot be opened, or a task ends by
/// itself.
pub async fn run(args: Args) -> Result<(), RunError> {
    let settings = Settings::from(args);
    let shutdown = shutdown::on_signal().map_err(RunError::Signals)?;
    let first = settings.policy.wait_for_first(settings.health_listen, &shutdown).await?;
    let Some(policy) = first else { return Ok(()) };
    let (metrics, mut registry) = Metrics::new();
    let clock = Clock::default();
    let client = metrics::counted(clock::compared(connect().await?, clock.clone()), metrics.clone());
    let listener = bind(settings.listen)?;
    let health = bind(settings.health_listen)?;
    let (events, backlog) = Events::new(&settings.identity);
    let events = events.counting(metrics.events_dropped.clone());
    let (ca, _) = Ca::unknown();
    let terms = watch::Sender::new(None);
    let sources = observe::sources(&settings.watch_namespaces);
    let queue = Arc::new(Queue::closed());
    let parts = Parts {
        fenced: leadership::fenced(client.clone(), terms.subscribe()),
        policy: watch::Sender::new(Arc::new(policy)),
        terms,
        observed: Observed::new(Arc::clone(&queue), sources.len()),
        queue,
        client,
        clock,
        settings,
        ca,
        metrics,
        events,
        shutdown: shutdown.clone(),
    };
    tracing::info!(listen = %parts.settings.listen, identity = parts.settings.identity, "controller started");

    // What ends on shutdown by itself, and what is simply dropped then.
    let (mut orderly, mut others) = (Supervised::default(), Supervised::default());
    parts.start_watches(&mut others, sources);
    parts.start_telling_what_is_left_out(&mut others);
    parts.start_missed_pods(&mut others);
    parts.start_alone_pods(&mut others);
    others.start("events", events::write(parts.client.clone(), backlog));
    parts.start_ca(&mut others);
    let identity = parts.start_own_certificates(&mut others);
    certmint_tls_server::metrics::register(&mut registry, Arc::clone(&identity));
    let survey = parts.start_survey(&mut others, &identity);
    let probes = Observability { registry: Arc::new(registry), ready: move || survey.ready() };
    orderly.start("policy", parts.follow_policy());
    parts.start_leading(&mut orderly);
    parts.start_servers(&mut orderly, identity, (listener, health), probes);

    let ended = tokio::select! {
        () = shutdown.cancelled() => None,
        name = orderly.first_to_end() => Some(name),
        name = others.first_to_end() => Some(name),
    };
    // On shutdown, tasks may end before the token is seen here.
    let failed = ended.filter(|_| !shutdown.is_cancelled());
    shutdown.cancel();
    orderly.all().await;
    tracing::info!("controller ended");
    failed.map_or(Ok(()), |name| Err(RunError::TaskEnded(name)))
}

async fn connect() -> Result<Client, RunError> {
    let no_cluster = |error: kube::Error| RunError::NoCluster(Box::new(error));
    let config = kube::Config::infer().await.map_err(|why| no_cluster(kube::Error::InferConfig(why)))?;
    api::client(config).map_err(no_cluster)
}
