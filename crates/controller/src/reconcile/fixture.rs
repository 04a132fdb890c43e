//! Fixture: a controller that observes one workload, and its mock API server.

use std::sync::Arc;

use certmint_certificates::ca::{IssuingProfile, RootProfile};
use certmint_certificates::{Authority, PrivateKey};
use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, Policy, TrustBundle, WorkloadKind, WorkloadRef};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Reconciler;
use crate::ca::Ca;
use crate::clock::{self, Clock};
use crate::decisions::Decider;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::observe::{Cache, TrackedSecret, WatchedObject, WorkloadKey};
use crate::queue::{Queue, WorkOutcome};
use crate::random;
use crate::testing::{Call, MockApiServer, api_server};

pub(crate) const SECRETS: &str = "/api/v1/namespaces/shop/secrets";
pub(crate) const SECRET: &str = "/api/v1/namespaces/shop/secrets/payments-certmint-tls";
pub(crate) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/payments";

/// The controller, its API server and its inputs.
pub(crate) struct Fixture {
    pub(crate) reconciler: Arc<Reconciler>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) server: MockApiServer,
    pub(crate) events: tokio::sync::mpsc::Receiver<crate::events::PendingEvent>,
    pub(crate) key: WorkloadKey,
    pub(crate) queue: Arc<Queue<WorkloadKey>>,
    pub(crate) ca: watch::Sender<Ca>,
    pub(crate) policy: watch::Sender<Arc<Policy>>,
    pub(crate) registry: prometheus_client::registry::Registry,
}

pub(crate) fn authority() -> Arc<Authority> {
    authority_for(&[])
}

/// Returns a CA whose issuing CA is constrained to these names and their subdomains.
pub(crate) fn authority_for(permitted_dns: &[DnsName]) -> Arc<Authority> {
    let domain = "cluster.local".parse().unwrap();
    let lifetime = Lifetime::from_seconds(86_400 * 90);
    let key = || PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let root = RootProfile { trust_domain: &domain, lifetime };
    let issuing = IssuingProfile { trust_domain: &domain, lifetime, permitted_dns };
    let root = (&root, key(), random::serial().unwrap());
    let issuing = (&issuing, key(), random::serial().unwrap());
    Arc::new(Authority::create(root, issuing, clock::now()).unwrap())
}

pub(crate) fn workload() -> Value {
    json!({
        "metadata": {
            "name": "payments", "namespace": "shop", "uid": "w-1", "resourceVersion": "1",
            "annotations": { "certmint.dev/inject": "true" },
        },
        "spec": { "template": { "metadata": { "labels": { "app": "payments" } }, "spec": {} } },
    })
}

pub(crate) fn seen(object: &Value) -> WatchedObject {
    serde_json::from_str(&object.to_string()).unwrap()
}

/// Returns the Secret as the API server returns it when only Certmint has written it.
pub(crate) fn written_by_certmint(secret: &Value) -> Value {
    let fields = |object: &Value| -> Value {
        object.as_object().unwrap().keys().map(|key| (format!("f:{key}"), json!({}))).collect()
    };
    let mut secret = secret.clone();
    let annotations = fields(&secret["metadata"]["annotations"]);
    let data = fields(&secret["data"]);
    secret["metadata"]["managedFields"] = json!([{
        "manager": "certmint", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": { "f:data": data, "f:metadata": { "f:annotations": annotations } },
    }]);
    secret
}

/// Responds to a replacement as the API server does.
pub(crate) fn replaced(call: Call) {
    let mut written = call.body.clone();
    written["metadata"]["name"] = "payments-certmint-tls".into();
    written["metadata"]["namespace"] = "shop".into();
    call.ok(written);
}

/// Returns a controller that observes one workload and has a CA.
pub(crate) fn fixture() -> Fixture {
    let (client, server) = api_server();
    let queue = Arc::new(Queue::default());
    let cache = Cache::new(Arc::clone(&queue), 0);
    cache.insert_workload(WorkloadKind::Deployment, &seen(&workload()));
    let (events, pending) = Events::new("controller-0");
    let authority = authority();
    let trust_bundle = Some(Arc::new(authority.trust_bundle().clone()));
    let (ca_sender, ca) = watch::channel(Ca { authority: Ok(authority), trust_bundle, reissue_since: None });
    let (policy_sender, policy) = watch::channel(Arc::new(Policy::default()));
    let (metrics, registry) = Metrics::new();
    let decider =
        Decider { client: client.clone(), cache: Arc::clone(&cache), ca, policy, clock: Clock::default() };
    Fixture {
        reconciler: Arc::new(Reconciler::new(client, decider, events, metrics)),
        cache,
        server,
        queue,
        events: pending,
        registry,
        key: WorkloadKey {
            namespace: "shop".parse().unwrap(),
            workload: WorkloadRef::new(WorkloadKind::Deployment, "payments"),
        },
        ca: ca_sender,
        policy: policy_sender,
    }
}

impl Fixture {
    /// Returns the reasons of the Events since the last call.
    pub(crate) fn reasons(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(|event| event.reason).collect()
    }

    /// Issues the first certificate, and returns the Secret as the API server stores it.
    pub(crate) async fn issue(&mut self) -> Value {
        let (outcome, secret) = tokio::join!(self.reconciler.reconcile(&self.key), async {
            let call = self.server.expect("POST", SECRETS).await;
            let mut secret = call.body.clone();
            secret["metadata"]["resourceVersion"] = "1".into();
            secret["metadata"]["namespace"] = "shop".into();
            secret["metadata"]["uid"] = "s-1".into();
            call.ok(secret.clone());
            secret
        });
        assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
        secret
    }

    /// Adds the root of another CA to the trusted roots, as their second generation.
    pub(crate) fn add_root(&self) {
        self.ca.send_modify(|ca| {
            let known = ca.authority.as_ref().unwrap();
            let trust_bundle = TrustBundle {
                roots: [known.trust_bundle(), authority().trust_bundle()]
                    .map(|bundle| &*bundle.roots)
                    .concat(),
                generation: known.trust_bundle().generation.next(),
            };
            let authority = Authority::from_pem(&known.to_pem().unwrap(), clock::now()).unwrap();
            let authority = authority.with_trust_bundle(trust_bundle.clone()).unwrap();
            let trust_bundle = Some(Arc::new(trust_bundle));
            *ca = Ca { authority: Ok(Arc::new(authority)), trust_bundle, reissue_since: None };
        });
    }

    /// Returns the workload's Secret in the cache.
    pub(crate) fn known(&self) -> TrackedSecret {
        self.cache.view(&self.key).secrets.pop().unwrap()
    }
}
