//! The running controller: which tasks there are, and how they end.

use crate::{
    args::{Args, Settings},
    ca::{self, Ca, Keeper},
    events::{self, Events},
    issuance::Issuance,
    leadership::{self, Term},
    metrics::{self, Metrics},
    missed::Missed,
    observe::{self, Observed},
    own_certificates::{WebhookCertificate, keep_api_identity},
    policy_file::{self, PolicyFileError},
    queue::Queue,
    reconcile::{self, Reconciler},
    supervise::Supervised,
    survey::Survey,
    unnoticed::Unnoticed,
};
use certmint_contract::{ErrorCode, Policy};
use certmint_tls_server::{Identity, Limits, Server, observability::Observability, shutdown};
use kube::Client;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// Why the controller does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no policy to begin with.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    /// It is not known where the API server is, or how to prove who we are.
    #[error("no way to the API server: {0}; run in a pod with a service account, or set KUBECONFIG")]
    NoCluster(Box<kube::Error>),
    /// An address is not to be had.
    #[error("cannot listen on {address}: {why}; is another process there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        why: std::io::Error,
    },
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
            Self::Policy(_) => ErrorCode::InvalidPolicy,
            Self::NoCluster(_) | Self::Listen { .. } | Self::Signals(_) => ErrorCode::InvalidSettings,
            Self::TaskEnded(_) => ErrorCode::Internal,
        }
    }
}

/// A connection to the API server that is not there within this time is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What every task may need a copy of.
struct Parts {
    client: Client,
    /// Changes nothing unless this replica leads.
    fenced: Client,
    settings: Settings,
    policy: watch::Sender<Arc<Policy>>,
    ca: watch::Sender<Ca>,
    terms: watch::Sender<Term>,
    metrics: Metrics,
    events: Events,
    shutdown: CancellationToken,
}

/// Runs until SIGTERM or SIGINT, then ends what is under way and gives up the lease.
///
/// # Errors
/// When there is no policy or no way to the API server, a listener cannot be opened, or a task ends by
/// itself.
pub async fn run(args: Args) -> Result<(), RunError> {
    let settings = Settings::from(args);
    let policy = policy_file::read(&settings.policy)?;
    let (metrics, mut registry) = Metrics::new();
    let client = metrics::counted(connect().await?, metrics.clone());
    let listener = listen(settings.listen).await?;
    let health = listen(settings.health_listen).await?;
    let shutdown = shutdown::on_signal().map_err(RunError::Signals)?;
    let (events, backlog) = Events::new(&settings.identity);
    let events = events.counting(metrics.events_dropped.clone());
    let (ca, _) = Ca::unknown();
    let terms = watch::Sender::new(None);
    let parts = Parts {
        fenced: leadership::fenced(client.clone(), terms.subscribe()),
        policy: watch::Sender::new(Arc::new(policy)),
        terms,
        client,
        settings,
        ca,
        metrics,
        events,
        shutdown: shutdown.clone(),
    };
    tracing::info!(listen = %parts.settings.listen, identity = parts.settings.identity, "controller started");

    // What ends on shutdown by itself, and what is simply dropped then.
    let (mut orderly, mut others) = (Supervised::default(), Supervised::default());
    let sources = observe::sources(&parts.settings.watch_namespaces);
    let queue = Arc::new(Queue::closed());
    let observed = Observed::new(Arc::clone(&queue), sources.len());
    for source in sources {
        let (client, metrics) = (parts.client.clone(), parts.metrics.clone());
        others.start(source.name(), observe::watch(client, source, Arc::clone(&observed), metrics));
    }
    parts.start_missed(&mut others, &observed);
    others.start("events", events::write(parts.client.clone(), backlog));
    parts.start_ca(&mut others, &observed);
    let identity = parts.start_own_certificates(&mut others);
    certmint_tls_server::metrics::register(&mut registry, Arc::clone(&identity));
    let reconciler = parts.reconciler(&observed);
    parts.start_leading(&mut orderly, &reconciler, &queue);
    let survey = Survey {
        observed,
        queue,
        ca: parts.ca.subscribe(),
        terms: parts.terms.subscribe(),
        identity: Arc::clone(&identity),
        metrics: parts.metrics.clone(),
    };
    let survey = Arc::new(survey);
    others.start("survey", Arc::clone(&survey).run());
    let ready = move || survey.ready();
    let probes = Observability { registry: Arc::new(registry), ready };
    parts.start_servers(&mut orderly, reconciler, identity, (listener, health), probes);

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

impl Parts {
    fn reconciler(&self, observed: &Arc<Observed>) -> Arc<Reconciler> {
        Arc::new(Reconciler {
            client: self.fenced.clone(),
            observed: Arc::clone(observed),
            ca: self.ca.subscribe(),
            policy: self.policy.subscribe(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            blocked: Mutex::default(),
        })
    }

    fn start_missed(&self, tasks: &mut Supervised, observed: &Arc<Observed>) {
        let missed = Missed {
            client: self.client.clone(),
            observed: Arc::clone(observed),
            terms: self.terms.subscribe(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
        };
        let scopes: Vec<_> = match &*self.settings.watch_namespaces {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        for scope in scopes {
            tasks.start("missed pods", missed.clone().watch(scope));
        }
    }

    fn start_ca(&self, tasks: &mut Supervised, observed: &Arc<Observed>) {
        let trace = {
            let observed = Arc::clone(observed);
            move || observed.trace_of_a_ca()
        };
        let mut keeper = Keeper {
            store: ca::Store::new(self.fenced.clone(), self.settings.ca.clone()),
            ca: self.ca.clone(),
            policy: self.policy.subscribe(),
            terms: self.terms.subscribe(),
            trace,
            events: self.events.clone(),
            ourselves: self.settings.ourselves.clone(),
        };
        let (client, observed) = (self.client.clone(), Arc::clone(observed));
        tasks.start("ca", async move {
            // Whether there are Secrets of an earlier CA is known only then.
            observed.synced().await;
            keeper.ourselves = keeper.ourselves.identified(&client).await;
            keeper.run().await;
        });
    }

    fn start_own_certificates(&self, tasks: &mut Supervised) -> Arc<Identity> {
        let identity = Arc::new(Identity::default());
        let (ca, policy) = (self.ca.subscribe(), self.policy.subscribe());
        let server = self.settings.api.clone();
        tasks.start("api certificate", keep_api_identity(Arc::clone(&identity), server, ca, policy));
        identity
    }

    /// Each replica has the file mounted, so each tells what is wrong with it.
    fn follow_policy(&self) -> impl Future<Output = ()> + use<> {
        let (path, policy) = (self.settings.policy.clone(), self.policy.clone());
        let (metrics, events) = (self.metrics.clone(), self.events.clone());
        let (ourselves, client) = (self.settings.ourselves.clone(), self.client.clone());
        let shutdown = self.shutdown.clone();
        async move {
            let ourselves = ourselves.identified(&client).await;
            let told = |outcome: Result<(), &str>| {
                metrics.policy_rejected.set(outcome.is_err().into());
                if let Err(why) = outcome {
                    events.refused(&ourselves, ErrorCode::InvalidPolicy, why);
                }
            };
            policy_file::follow(path, policy, told, shutdown).await;
        }
    }

    fn start_leading(
        &self,
        tasks: &mut Supervised,
        reconciler: &Arc<Reconciler>,
        queue: &Arc<Queue<observe::WorkloadKey>>,
    ) {
        let Self { client, settings, terms, shutdown, .. } = self;
        tasks.start("policy", self.follow_policy());
        let (lease, shutdown) = (settings.lease.clone(), shutdown.clone());
        tasks.start("lease", leadership::campaign(client.clone(), lease, terms.clone(), shutdown.clone()));
        let webhook = Arc::new(WebhookCertificate {
            client: self.fenced.clone(),
            server: settings.webhook.clone(),
            names: settings.webhook_names.clone(),
            ca: self.ca.subscribe(),
            policy: self.policy.subscribe(),
        });
        let unnoticed = Arc::new(Unnoticed {
            client: self.client.clone(),
            namespaces: settings.watch_namespaces.to_vec(),
            events: self.events.clone(),
        });
        let (reconciler, queue, terms) = (Arc::clone(reconciler), Arc::clone(queue), terms.subscribe());
        let concurrency = settings.concurrency;
        tasks.start("work", async move {
            let work = || {
                let work = reconcile::work(Arc::clone(&reconciler), Arc::clone(&queue), concurrency);
                let (webhook, unnoticed) = (Arc::clone(&webhook), Arc::clone(&unnoticed));
                async move {
                    tokio::join!(work, webhook.keep(), unnoticed.look());
                }
            };
            leadership::while_leading(terms, &shutdown, work).await;
        });
    }

    fn start_servers<R: Fn() -> Result<(), String> + Send + Sync + 'static>(
        &self,
        tasks: &mut Supervised,
        reconciler: Arc<Reconciler>,
        identity: Arc<Identity>,
        (listener, health): (TcpListener, TcpListener),
        probes: Observability<R>,
    ) {
        // A request has no body, and pods ask rarely.
        let limits = Limits { body_bytes: 1024, ..Limits::default() };
        let shutdown = self.shutdown.clone();
        let api = Server {
            handler: Issuance::new(self.client.clone(), reconciler),
            limits,
            shutdown: shutdown.clone(),
        };
        tasks.start("issuance API", async move {
            if let Err(error) = api.serve_tls(listener, identity).await {
                let code = ErrorCode::NoServingCertificate;
                tracing::error!(%code, %error, "the issuance API cannot be served; the process ends and is started again");
            }
        });
        let probes = Server { handler: probes, limits, shutdown };
        tasks.start("probes", async move { probes.serve_plain(health).await });
    }
}

async fn connect() -> Result<Client, RunError> {
    let no_cluster = |error: kube::Error| RunError::NoCluster(Box::new(error));
    let mut config = kube::Config::infer().await.map_err(|why| no_cluster(kube::Error::InferConfig(why)))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(no_cluster)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|why| RunError::Listen { address, why })
}
