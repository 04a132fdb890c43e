use super::*;
use crate::{
    observe::Known,
    queue::Queue,
    testing::{ApiServer, api_server},
};
use certmint_certificates::{
    Authority, PrivateKey,
    ca::{IssuingProfile, RootProfile},
};
use certmint_contract::{KeyAlgorithm, Lifetime, WorkloadKind, WorkloadRef};
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/shop/secrets";
const SECRET: &str = "/api/v1/namespaces/shop/secrets/payments-certmint-tls";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/payments";

struct Fixture {
    reconciler: Reconciler,
    server: ApiServer,
    told: tokio::sync::mpsc::Receiver<k8s_openapi::api::events::v1::Event>,
    key: WorkloadKey,
    _senders: (watch::Sender<Ca>, watch::Sender<Arc<Policy>>),
}

fn authority() -> Arc<Authority> {
    let domain = "cluster.local".parse().unwrap();
    let lifetime = Lifetime::from_seconds(86_400 * 90);
    let key = || PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let root = RootProfile { trust_domain: &domain, lifetime };
    let issuing = IssuingProfile { trust_domain: &domain, lifetime, permitted_dns: &[] };
    let root = (&root, key(), entropy::serial().unwrap());
    let issuing = (&issuing, key(), entropy::serial().unwrap());
    Arc::new(Authority::create(root, issuing, entropy::now()).unwrap())
}

fn workload() -> Value {
    json!({
        "metadata": {
            "name": "payments", "namespace": "shop", "uid": "w-1", "resourceVersion": "1",
            "annotations": { "certmint.dev/inject": "true" },
        },
        "spec": { "template": { "metadata": { "labels": { "app": "payments" } }, "spec": {} } },
    })
}

fn seen(object: &Value) -> Seen {
    serde_json::from_str(&object.to_string()).unwrap()
}

/// A controller that observes one workload and has a CA.
fn fixture() -> Fixture {
    let (client, server) = api_server();
    let observed = Observed::new(Arc::new(Queue::default()), 0);
    observed.see(WorkloadKind::Deployment, &seen(&workload()));
    let (events, told) = Events::new("controller-0");
    let authority = authority();
    let roots = Some(authority.trust_bundle().into());
    let (ca_sender, ca) = watch::channel(Ca { authority: Ok(authority), roots });
    let (policy_sender, policy) = watch::channel(Arc::new(Policy::default()));
    let metrics = Metrics::default();
    Fixture {
        reconciler: Reconciler { client, observed, ca, policy, events, metrics },
        server,
        told,
        key: WorkloadKey {
            namespace: "shop".parse().unwrap(),
            workload: WorkloadRef::new(WorkloadKind::Deployment, "payments"),
        },
        _senders: (ca_sender, policy_sender),
    }
}

impl Fixture {
    fn reasons(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.told.try_recv().ok()?.reason).collect()
    }

    /// Issues the first certificate, and returns the Secret as the API server has it.
    async fn issue(&mut self) -> Value {
        let (outcome, secret) = tokio::join!(self.reconciler.reconcile(&self.key), async {
            let call = self.server.expect("POST", SECRETS).await;
            let mut secret = call.body.clone();
            secret["metadata"]["resourceVersion"] = "1".into();
            secret["metadata"]["namespace"] = "shop".into();
            secret["metadata"]["uid"] = "s-1".into();
            call.ok(secret.clone());
            secret
        });
        assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
        secret
    }

    fn known(&self) -> Known {
        self.reconciler.observed.view(&self.key).secrets.pop().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_workload_costs_one_write_and_an_event() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["labels"], json!({ "certmint.dev/managed": "true" }));
    assert_eq!(
        secret["metadata"]["ownerReferences"],
        json!([{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "payments", "uid": "w-1",
            "controller": true, "blockOwnerDeletion": false,
        }])
    );
    assert_eq!(fixture.reasons(), ["Issued"]);
    // The write itself was taken note of: nothing is left to do, whether or not the watch told of it.
    assert!(matches!(fixture.reconciler.reconcile(&fixture.key).await, Outcome::Again(_)));
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_secret_of_that_name_is_read_and_left_alone() {
    let mut fixture = fixture();
    for _ in 0..2 {
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
            fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
            let foreign = json!({ "metadata": {
                "name": "payments-certmint-tls", "namespace": "shop", "uid": "f", "resourceVersion": "1",
            }});
            fixture.server.expect("GET", SECRET).await.ok(foreign);
        });
        assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
    }
    assert_eq!(fixture.reasons(), ["ForeignSecret"]);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_another_leader_issued_meanwhile_is_kept() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    fixture
        .reconciler
        .observed
        .forget_secret(&fixture.key.namespace, &"payments-certmint-tls".parse().unwrap());
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
        fixture.server.expect("GET", SECRET).await.ok(secret);
    });
    assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued"]);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_changed_by_hand_is_read_and_replaced_exactly_as_it_was_seen() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    secret["metadata"]["resourceVersion"] = "2".into();
    secret["data"]["tls.key"] = "aHVzaA==".into();
    fixture.reconciler.observed.see_secret(&seen(&secret));
    assert!(fixture.known().suspect);
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        // Somebody is faster: what is there now is looked at before anything else is written.
        fixture.server.expect("PATCH", SECRET).await.fail(409, "Conflict");
        secret["metadata"]["resourceVersion"] = "3".into();
        secret["metadata"]["annotations"]["certmint.dev/serial"] = Value::Null;
        secret["metadata"]["annotations"].as_object_mut().unwrap().remove("certmint.dev/serial");
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        let call = fixture.server.expect("PATCH", SECRET).await;
        assert_eq!(call.body["metadata"]["uid"], "s-1");
        assert_eq!(call.body["metadata"]["resourceVersion"], "3");
        assert_ne!(call.body["data"]["tls.key"], "aHVzaA==");
        let reason = &call.body["metadata"]["annotations"]["certmint.dev/reason"];
        assert!(reason.as_str().unwrap().starts_with("damaged: "), "{reason}");
        let mut written = call.body.clone();
        written["metadata"]["name"] = "payments-certmint-tls".into();
        written["metadata"]["namespace"] = "shop".into();
        call.ok(written);
    });
    assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued", "Renewed"]);
}

#[tokio::test(start_paused = true)]
async fn an_untouched_secret_that_only_got_a_label_is_kept() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    secret["metadata"]["resourceVersion"] = "2".into();
    secret["metadata"]["labels"]["team"] = "checkout".into();
    fixture.reconciler.observed.see_secret(&seen(&secret));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret);
    });
    assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
    assert!(!fixture.known().suspect);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lags_behind_our_own_writes_renews_nothing() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    // What the watch tells only now is the certificate before the one that was just written.
    let mut earlier = secret.clone();
    earlier["metadata"]["resourceVersion"] = "0".into();
    earlier["metadata"]["annotations"]["certmint.dev/serial"] = "0badcafe".into();
    fixture.reconciler.observed.see_secret(&seen(&earlier));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret);
    });
    assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued"]);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_goes_only_when_its_workload_says_so_itself() {
    let mut fixture = fixture();
    fixture.issue().await;
    fixture.reconciler.observed.unsee(WorkloadKind::Deployment, "shop", "payments");
    // The label is gone, but the workload still asks: it is looked at again when renewal is due.
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", DEPLOYMENT).await.ok(workload());
    });
    assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
    fixture.server.expect_silence().await;
    // It opted out.
    let mut opted_out = workload();
    opted_out["metadata"]["annotations"] = json!({});
    let (_, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", DEPLOYMENT).await.ok(opted_out);
        let call = fixture.server.expect("DELETE", SECRET).await;
        assert_eq!(call.body["preconditions"]["uid"], "s-1");
        call.ok(json!({ "kind": "Status", "status": "Success" }));
    });
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_ca_nothing_is_written_and_the_workload_is_told() {
    let mut fixture = fixture();
    fixture._senders.0.send_modify(|ca| ca.authority = Err(Arc::new(crate::ca::CaFault::NotYet)));
    assert!(matches!(fixture.reconciler.reconcile(&fixture.key).await, Outcome::Again(_)));
    assert_eq!(fixture.reasons(), ["CaUnavailable"]);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_refuses_is_tried_again_later() {
    let mut fixture = fixture();
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(500, "InternalError");
    });
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(fixture.reasons(), ["Unavailable"]);
}
