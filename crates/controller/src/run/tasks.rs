//! Starts each task of the controller with the values that it needs.

use std::sync::Arc;

use certmint_contract::{ErrorCode, Policy};
use certmint_server::observability::Observability;
use certmint_server::{Limits, Server, ServingKeyPair};
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::ControllerSettings;
use crate::ca::{self, Ca, CaKeeper, Exchange, OfflineRoot};
use crate::clock::Clock;
use crate::decisions::Decider;
use crate::events::Events;
use crate::health::Health;
use crate::issuance::IssuanceApi;
use crate::issuer::Issuer;
use crate::leadership::{self, Campaign, Term};
use crate::metrics::Metrics;
use crate::missed_injection::{MissedPodWatch, MissedWorkloadWatch};
use crate::observe::{self, Cache, LeftOutReporter, WatchSource, WorkloadKey};
use crate::own_certificates::{WebhookCertificate, keep_api_certificate};
use crate::policy_file::{self, LastValidPolicy};
use crate::queue::Queue;
use crate::reconcile::{self, Reconciler};
use crate::standalone::StandalonePodReporter;
use crate::supervisor::TaskSet;

/// Values that tasks share. Each task gets clones of what it needs.
pub(super) struct TaskContext {
    pub(super) client: Client,
    /// Client for the API server whose writes fail unless this replica leads.
    pub(super) fenced: Client,
    pub(super) clock: Clock,
    pub(super) settings: ControllerSettings,
    pub(super) cache: Arc<Cache>,
    pub(super) queue: Arc<Queue<WorkloadKey>>,
    pub(super) policy: watch::Sender<Arc<Policy>>,
    pub(super) ca: watch::Sender<Ca>,
    /// Leadership term of this replica.
    pub(super) terms: watch::Sender<Term>,
    pub(super) metrics: Metrics,
    pub(super) events: Events,
    pub(super) shutdown: CancellationToken,
}

impl TaskContext {
    /// Starts the watches that fill the cache.
    pub(super) fn start_watches(&self, tasks: &mut TaskSet, sources: Vec<WatchSource>) {
        for source in sources {
            let (client, metrics) = (self.client.clone(), self.metrics.clone());
            tasks.start(source.name(), observe::watch(client, source, Arc::clone(&self.cache), metrics));
        }
        let (client, metrics) = (self.client.clone(), self.metrics.clone());
        let listing = observe::list_services(client, Arc::clone(&self.cache), metrics);
        tasks.start("Services of namespaces", listing);
    }

    /// Starts the task that reports the objects that the cache leaves out, because they exceed a limit.
    pub(super) fn start_left_out_reporter(&self, tasks: &mut TaskSet) {
        let reporter = LeftOutReporter {
            cache: Arc::clone(&self.cache),
            terms: self.terms.subscribe(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
        };
        tasks.start("left out", reporter.run());
    }

    fn decider(&self) -> Decider {
        Decider {
            client: self.client.clone(),
            cache: Arc::clone(&self.cache),
            ca: self.ca.subscribe(),
            policy: self.policy.subscribe(),
            clock: self.clock.clone(),
        }
    }

    fn issuer(&self) -> Issuer {
        Issuer { ca: self.ca.subscribe(), policy: self.policy.subscribe(), clock: self.clock.clone() }
    }

    fn reconciler(&self) -> Arc<Reconciler> {
        let (events, metrics) = (self.events.clone(), self.metrics.clone());
        Arc::new(Reconciler::new(self.fenced.clone(), self.decider(), events, metrics))
    }

    /// Starts the task that makes unserved pods standalone, and reports them.
    pub(super) fn start_standalone_pods(&self, tasks: &mut TaskSet) {
        let reporter = StandalonePodReporter {
            cache: Arc::clone(&self.cache),
            decider: self.decider(),
            terms: self.terms.subscribe(),
            events: self.events.clone(),
        };
        tasks.start("standalone pods", reporter.run());
    }

    /// Starts the watches for pods that were not injected.
    pub(super) fn start_missed_pods(&self, tasks: &mut TaskSet) {
        let missed = MissedPodWatch {
            client: self.client.clone(),
            cache: Arc::clone(&self.cache),
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

    /// Starts the task that creates, loads and rotates the CA.
    pub(super) fn start_ca(&self, tasks: &mut TaskSet) {
        let find_evidence_of_earlier_ca = {
            let cache = Arc::clone(&self.cache);
            move || cache.evidence_of_earlier_ca()
        };
        let mut keeper = CaKeeper {
            store: ca::CaStore::new(self.fenced.clone(), self.settings.ca.clone()),
            ca: self.ca.clone(),
            policy: self.policy.subscribe(),
            terms: self.terms.subscribe(),
            clock: self.clock.clone(),
            offline: self.settings.offline_root.clone().map(|names| OfflineRoot {
                exchange: Exchange::new(self.fenced.clone(), names),
                gauges: self.metrics.offline_root.clone(),
            }),
            find_evidence_of_earlier_ca,
            events: self.events.clone(),
            own_deployment: self.settings.own_deployment.clone(),
        };
        let (client, cache) = (self.client.clone(), Arc::clone(&self.cache));
        tasks.start("ca", async move {
            // The keeper must know whether Secrets of an earlier CA exist. Only a complete cache shows that.
            cache.wait_for_sync().await;
            keeper.own_deployment = keeper.own_deployment.with_uid(&client).await;
            keeper.run().await;
        });
    }

    /// Starts the task that renews the issuance API's certificate.
    pub(super) fn start_own_certificates(&self, tasks: &mut TaskSet) -> Arc<ServingKeyPair> {
        let key_pair = Arc::new(ServingKeyPair::default());
        let service = self.settings.api.clone();
        let keeping = keep_api_certificate(Arc::clone(&key_pair), service, self.issuer());
        tasks.start("api certificate", keeping);
        key_pair
    }

    /// Follows the policy file. Every replica has the file mounted, so every replica reports what is wrong with it.
    pub(super) fn follow_policy(&self) -> impl Future<Output = ()> + use<> {
        let (file, policy) = (self.settings.policy.clone(), self.policy.clone());
        let (metrics, events) = (self.metrics.clone(), self.events.clone());
        let (own_deployment, client) = (self.settings.own_deployment.clone(), self.client.clone());
        let shutdown = self.shutdown.clone();
        async move {
            let own_deployment = own_deployment.with_uid(&client).await;
            let report = |outcome: Result<(), &str>| {
                metrics.invalid_policy.set(outcome.is_err().into());
                if let Err(why) = outcome {
                    events.warn(&own_deployment, ErrorCode::InvalidPolicy, why);
                }
            };
            policy_file::follow(file, policy, report, shutdown).await;
        }
    }

    /// Starts the task that sets the gauges.
    pub(super) fn start_health(&self, tasks: &mut TaskSet, key_pair: &Arc<ServingKeyPair>) -> Arc<Health> {
        let controller_health = Arc::new(Health {
            cache: Arc::clone(&self.cache),
            queue: Arc::clone(&self.queue),
            ca: self.ca.subscribe(),
            terms: self.terms.subscribe(),
            key_pair: Arc::clone(key_pair),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        });
        tasks.start("health", Arc::clone(&controller_health).run());
        controller_health
    }

    /// Starts the election and the work of the leader.
    pub(super) fn start_leading(&self, tasks: &mut TaskSet) {
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
            service: settings.webhook.clone(),
            names: settings.webhook_names.clone(),
            issuer: self.issuer(),
        });
        let missed = Arc::new(MissedWorkloadWatch {
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
                let work = reconcile::run_workers(Arc::clone(&reconciler), Arc::clone(&queue), concurrency);
                let (webhook, missed) = (Arc::clone(&webhook), Arc::clone(&missed));
                let last_valid = Arc::clone(&last_valid);
                async move {
                    tokio::join!(work, webhook.keep(), missed.watch(), last_valid.keep());
                }
            };
            leadership::while_leading(terms, &shutdown, work).await;
        });
    }

    /// Starts the issuance API and the health and metrics listener.
    pub(super) fn start_servers<R: Fn() -> Result<(), String> + Send + Sync + 'static>(
        &self,
        tasks: &mut TaskSet,
        key_pair: Arc<ServingKeyPair>,
        (listener, health): (TcpListener, TcpListener),
        probes: Observability<R>,
    ) {
        let shutdown = self.shutdown.clone();
        let api = Server {
            handler: IssuanceApi::new(
                self.client.clone(),
                self.decider(),
                self.events.clone(),
                self.metrics.clone(),
            ),
            limits: Limits::issuance(),
            shutdown: shutdown.clone(),
        };
        tasks.start("issuance API", async move {
            if let Err(error) = api.serve_tls(listener, key_pair).await {
                let code = ErrorCode::NoServingCertificate;
                tracing::error!(%code, %error, "cannot serve the issuance API; the process ends, and Kubernetes restarts it");
            }
        });
        tasks.start("probes", probes.serve(health, shutdown));
    }
}
