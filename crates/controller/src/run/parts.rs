//! The tasks, each given what it needs.

use crate::{
    alone::AlonePods,
    args::Settings,
    ca::{self, Ca, Keeper},
    clock::Clock,
    events::Events,
    issuance::Issuance,
    leadership::{self, Campaign, Term},
    metrics::Metrics,
    missed::{MissedPods, MissedWorkloads},
    observe::{self, LeftOutTeller, Observed, Source, WorkloadKey},
    own_certificates::{WebhookCertificate, keep_api_identity},
    planning::Planning,
    policy_file::{self, LastValidPolicy},
    queue::Queue,
    reconcile::{self, News, Pace, Reconciler},
    supervise::Supervised,
    survey::Survey,
};
use certmint_contract::{ErrorCode, Policy};
use certmint_tls_server::{Identity, Limits, Server, observability::Observability};
use kube::Client;
use std::sync::{Arc, Mutex};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// What every task may need a copy of.
pub(super) struct Parts {
    pub(super) client: Client,
    /// Changes nothing unless this replica leads.
    pub(super) fenced: Client,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) observed: Arc<Observed>,
    pub(super) queue: Arc<Queue<WorkloadKey>>,
    pub(super) policy: watch::Sender<Arc<Policy>>,
    pub(super) ca: watch::Sender<Ca>,
    pub(super) terms: watch::Sender<Term>,
    pub(super) metrics: Metrics,
    pub(super) events: Events,
    pub(super) shutdown: CancellationToken,
}

impl Parts {
    pub(super) fn start_watches(&self, tasks: &mut Supervised, sources: Vec<Source>) {
        for source in sources {
            let (client, metrics) = (self.client.clone(), self.metrics.clone());
            tasks.start(source.name(), observe::watch(client, source, Arc::clone(&self.observed), metrics));
        }
        let (client, metrics) = (self.client.clone(), self.metrics.clone());
        let listing = observe::list_services(client, Arc::clone(&self.observed), metrics);
        tasks.start("Services of namespaces", listing);
    }

    pub(super) fn start_telling_what_is_left_out(&self, tasks: &mut Supervised) {
        let teller = LeftOutTeller {
            observed: Arc::clone(&self.observed),
            terms: self.terms.subscribe(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
        };
        tasks.start("left out", teller.run());
    }

    fn planning(&self) -> Planning {
        Planning {
            client: self.client.clone(),
            observed: Arc::clone(&self.observed),
            ca: self.ca.subscribe(),
            policy: self.policy.subscribe(),
            clock: self.clock.clone(),
        }
    }

    fn reconciler(&self) -> Arc<Reconciler> {
        Arc::new(Reconciler {
            client: self.fenced.clone(),
            planning: self.planning(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            blocked: Mutex::default(),
            news: News::default(),
            pace: Pace::default(),
        })
    }

    pub(super) fn start_alone_pods(&self, tasks: &mut Supervised) {
        let alone = AlonePods {
            observed: Arc::clone(&self.observed),
            planning: self.planning(),
            terms: self.terms.subscribe(),
            events: self.events.clone(),
        };
        tasks.start("pods alone", alone.run());
    }

    pub(super) fn start_missed_pods(&self, tasks: &mut Supervised) {
        let missed = MissedPods {
            client: self.client.clone(),
            observed: Arc::clone(&self.observed),
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

    pub(super) fn start_ca(&self, tasks: &mut Supervised) {
        let trace = {
            let observed = Arc::clone(&self.observed);
            move || observed.trace_of_a_ca()
        };
        let mut keeper = Keeper {
            store: ca::Store::new(self.fenced.clone(), self.settings.ca.clone()),
            ca: self.ca.clone(),
            policy: self.policy.subscribe(),
            terms: self.terms.subscribe(),
            clock: self.clock.clone(),
            trace,
            events: self.events.clone(),
            ourselves: self.settings.ourselves.clone(),
        };
        let (client, observed) = (self.client.clone(), Arc::clone(&self.observed));
        tasks.start("ca", async move {
            // Whether there are Secrets of an earlier CA is known only then.
            observed.synced().await;
            keeper.ourselves = keeper.ourselves.identified(&client).await;
            keeper.run().await;
        });
    }

    pub(super) fn start_own_certificates(&self, tasks: &mut Supervised) -> Arc<Identity> {
        let identity = Arc::new(Identity::default());
        let (ca, policy) = (self.ca.subscribe(), self.policy.subscribe());
        let (server, clock) = (self.settings.api.clone(), self.clock.clone());
        tasks.start("api certificate", keep_api_identity(Arc::clone(&identity), server, clock, ca, policy));
        identity
    }

    /// Each replica has the file mounted, so each tells what is wrong with it.
    pub(super) fn follow_policy(&self) -> impl Future<Output = ()> + use<> {
        let (file, policy) = (self.settings.policy.clone(), self.policy.clone());
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
            policy_file::follow(file, policy, told, shutdown).await;
        }
    }

    pub(super) fn start_survey(&self, tasks: &mut Supervised, identity: &Arc<Identity>) -> Arc<Survey> {
        let survey = Arc::new(Survey {
            observed: Arc::clone(&self.observed),
            queue: Arc::clone(&self.queue),
            ca: self.ca.subscribe(),
            terms: self.terms.subscribe(),
            identity: Arc::clone(identity),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        });
        tasks.start("survey", Arc::clone(&survey).run());
        survey
    }

    pub(super) fn start_leading(&self, tasks: &mut Supervised) {
        let Self { client, settings, terms, shutdown, .. } = self;
        let shutdown = shutdown.clone();
        let campaign = Campaign {
            client: client.clone(),
            lease: settings.lease.clone(),
            clock: self.clock.clone(),
            terms: terms.clone(),
        };
        tasks.start("lease", campaign.run(shutdown.clone()));
        let webhook = Arc::new(WebhookCertificate {
            client: self.fenced.clone(),
            server: settings.webhook.clone(),
            names: settings.webhook_names.clone(),
            clock: self.clock.clone(),
            ca: self.ca.subscribe(),
            policy: self.policy.subscribe(),
        });
        let missed = Arc::new(MissedWorkloads {
            client: self.client.clone(),
            namespaces: settings.watch_namespaces.to_vec(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
        });
        let last_valid = Arc::new(LastValidPolicy::new(
            self.fenced.clone(),
            &settings.lease.namespace,
            &settings.last_valid_policy,
            self.policy.subscribe(),
        ));
        let (reconciler, queue, terms) = (self.reconciler(), Arc::clone(&self.queue), terms.subscribe());
        let concurrency = settings.concurrency;
        tasks.start("work", async move {
            let work = || {
                let work = reconcile::work(Arc::clone(&reconciler), Arc::clone(&queue), concurrency);
                let (webhook, missed) = (Arc::clone(&webhook), Arc::clone(&missed));
                let last_valid = Arc::clone(&last_valid);
                async move {
                    tokio::join!(work, webhook.keep(), missed.watch(), last_valid.keep());
                }
            };
            leadership::while_leading(terms, &shutdown, work).await;
        });
    }

    pub(super) fn start_servers<R: Fn() -> Result<(), String> + Send + Sync + 'static>(
        &self,
        tasks: &mut Supervised,
        identity: Arc<Identity>,
        (listener, health): (TcpListener, TcpListener),
        probes: Observability<R>,
    ) {
        let shutdown = self.shutdown.clone();
        let api = Server {
            handler: Issuance::new(
                self.client.clone(),
                self.planning(),
                self.events.clone(),
                self.metrics.clone(),
            ),
            limits: Limits::issuance(),
            shutdown: shutdown.clone(),
        };
        tasks.start("issuance API", async move {
            if let Err(error) = api.serve_tls(listener, identity).await {
                let code = ErrorCode::NoServingCertificate;
                tracing::error!(%code, %error, "the issuance API cannot be served; the process ends and is started again");
            }
        });
        tasks.start("probes", probes.serve(health, shutdown));
    }
}
