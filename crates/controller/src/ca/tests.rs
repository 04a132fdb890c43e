use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use certmint_certificates::PrivateKey;
use certmint_certificates::ca::{IssuingProfile, RootProfile};
use certmint_contract::{KeyAlgorithm, Policy};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::clock::Clock;
use crate::events::{Events, InvolvedObject};
use crate::testing::{MockApiServer, api_server};

const SECRETS: &str = "/api/v1/namespaces/certmint-system/secrets";
const SECRET: &str = "/api/v1/namespaces/certmint-system/secrets/certmint-ca";
const BUNDLES: &str = "/api/v1/namespaces/certmint-system/configmaps";
const BUNDLE: &str = "/api/v1/namespaces/certmint-system/configmaps/certmint-trust-bundle";

struct Fixture {
    server: MockApiServer,
    ca: watch::Receiver<Ca>,
    events: tokio::sync::mpsc::Receiver<crate::events::PendingEvent>,
    clock: Clock,
    _senders: (watch::Sender<Arc<Policy>>, watch::Sender<Option<Instant>>),
}

/// Starts a keeper, as leader or follower, in a cluster with or without traces of an earlier CA.
fn start_keeper(leading: bool, has_issued: bool) -> Fixture {
    start_keeper_with_clock(Clock::default(), leading, has_issued)
}

/// Starts a keeper with this clock.
fn start_keeper_with_clock(clock: Clock, leading: bool, has_issued: bool) -> Fixture {
    let (client, server) = api_server();
    let names = CaNames {
        namespace: "certmint-system".into(),
        secret: "certmint-ca".into(),
        bundle: "certmint-trust-bundle".into(),
    };
    let (sender, ca) = Ca::unknown();
    let (policy_sender, policy) = watch::channel(Arc::new(Policy::default()));
    let term = leading.then(|| Instant::now() + Duration::from_secs(1_000_000));
    let (terms_sender, terms) = watch::channel(term);
    let (events, pending) = Events::new("controller-0");
    let own_deployment = InvolvedObject {
        api_version: "apps/v1",
        kind: "Deployment",
        namespace: "certmint-system".into(),
        name: "certmint-controller".into(),
        uid: None,
    };
    let store = CaStore::new(client, names);
    let find_trace = move || has_issued.then(|| "Secret shop/payments-certmint-tls".to_owned());
    let keeper = CaKeeper {
        store,
        ca: sender,
        policy,
        terms,
        clock: clock.clone(),
        find_trace,
        events,
        own_deployment,
    };
    tokio::spawn(keeper.run());
    Fixture { server, ca, events: pending, clock, _senders: (policy_sender, terms_sender) }
}

impl Fixture {
    /// Lets a first leader create the CA. Returns its Secret and the published trust bundle.
    async fn create_ca(&mut self) -> (Value, Value) {
        self.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
        self.server.expect("GET", SECRET).await.fail(404, "NotFound");
        let call = self.server.expect("POST", SECRETS).await;
        let mut secret = call.body.clone();
        secret["metadata"]["resourceVersion"] = "1".into();
        secret["metadata"]["uid"] = "ca-1".into();
        call.ok(secret.clone());
        let call = self.server.expect("POST", BUNDLES).await;
        let bundle = call.body.clone();
        call.ok(bundle.clone());
        self.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
        (secret, bundle)
    }

    /// Responds to one check of the CA with these objects.
    async fn respond_to_check(&mut self, secret: &Value, bundle: &Value) {
        self.server.expect("GET", BUNDLE).await.ok(bundle.clone());
        self.server.expect("GET", SECRET).await.ok(secret.clone());
    }

    /// Waits for the next Event.
    async fn next_event(&mut self) -> crate::events::PendingEvent {
        let event = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await;
        event.expect("no Event").unwrap()
    }

    /// Waits until the CA has a lasting fault, and returns its text.
    async fn wait_for_fault(&mut self) -> String {
        let lost = self.ca.wait_for(|ca| ca.authority.is_err() && !ca.is_pending());
        let ca = tokio::time::timeout(Duration::from_secs(60), lost).await.expect("no fault").unwrap();
        ca.authority.as_ref().unwrap_err().to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_leader_creates_the_ca_and_publishes_its_root() {
    let mut fixture = start_keeper(true, false);
    let (secret, bundle) = fixture.create_ca().await;
    let data = secret["data"].as_object().unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["issuing.crt", "issuing.key", "root.crt", "root.key"]);
    let roots = fixture.ca.borrow().roots.clone().unwrap();
    assert_eq!(bundle["data"], json!({ "ca.crt": *roots }));
    assert!(!bundle.to_string().contains("PRIVATE"));
    // The next check finds nothing to do.
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn the_second_replica_uses_the_ca_of_the_first() {
    let (secret, bundle) = start_keeper(true, false).create_ca().await;
    let mut fixture = start_keeper(true, false);
    fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
    fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
    fixture.server.expect("GET", BUNDLE).await.ok(bundle.clone());
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
    assert_eq!(bundle["data"]["ca.crt"], *fixture.ca.borrow().roots.clone().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_follower_creates_nothing_and_waits() {
    let mut fixture = start_keeper(false, false);
    for _ in 0..2 {
        fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
        fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    }
    assert!(fixture.ca.borrow().is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_left_traces_is_never_recreated() {
    for (published, has_issued) in [(true, false), (false, true)] {
        let mut fixture = start_keeper(true, has_issued);
        let call = fixture.server.expect("GET", BUNDLE).await;
        match published {
            true => call.ok(json!({ "metadata": {}, "data": { "ca.crt": "roots" } })),
            false => call.fail(404, "NotFound"),
        }
        fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
        let fault = fixture.wait_for_fault().await;
        assert!(fault.contains("certmint-system/certmint-ca") && fault.contains("restore"), "{fault}");
        assert_eq!(fixture.events.recv().await.unwrap().reason, "CaUnavailable");
        fixture.server.expect_no_call().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ca_deleted_while_in_use_stops_issuance() {
    let mut fixture = start_keeper(true, false);
    let (secret, bundle) = fixture.create_ca().await;
    // The trust bundle was deleted, too.
    fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
    fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    fixture.wait_for_fault().await;
    assert!(fixture.ca.borrow().roots.is_some(), "existing certificates can still be verified");
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_root_stops_issuance() {
    let (other, _) = start_keeper(true, false).create_ca().await;
    let mut fixture = start_keeper(true, false);
    let (_, bundle) = fixture.create_ca().await;
    let before = fixture.ca.borrow().roots.clone();
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(other);
    assert!(fixture.wait_for_fault().await.contains("another root"));
    assert_eq!(fixture.ca.borrow().roots, before);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_root_stops_issuance() {
    let mut fixture = start_keeper(true, false);
    let (mut secret, bundle) = fixture.create_ca().await;
    secret["data"].as_object_mut().unwrap().remove("root.key");
    fixture.respond_to_check(&secret, &bundle).await;
    let fault = fixture.wait_for_fault().await;
    assert!(fault.contains("the root CA's key"), "{fault}");
}

/// Returns the Secret with another issuing CA, which the same root signed at the time `at`.
fn signed_at(secret: &Value, at: time::OffsetDateTime) -> Value {
    let text = |key: &str| {
        let encoded = secret["data"][key].as_str().unwrap();
        String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
    };
    let policy = Policy::default();
    let root =
        certmint_certificates::RootCa::from_pem(&text("root.crt"), &text("root.key"), crate::clock::now());
    let profile = IssuingProfile {
        trust_domain: &policy.trust_domain,
        lifetime: certmint_planner::ca::issuing_lifetime(&policy),
        permitted_dns: &policy.permitted_dns(),
    };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let issuing_key = key.to_pem().unwrap();
    let issuing = root.unwrap().sign_issuing(&profile, key, crate::random::serial().unwrap(), at).unwrap();
    let mut secret = secret.clone();
    secret["data"]["issuing.crt"] = BASE64_STANDARD.encode(issuing.certificate().pem()).into();
    secret["data"]["issuing.key"] = BASE64_STANDARD.encode(&*issuing_key).into();
    secret
}

#[tokio::test(start_paused = true)]
async fn an_unusable_issuing_ca_is_replaced_under_the_same_root() {
    let (secret, bundle) = start_keeper(true, false).create_ca().await;
    let (other, _) = start_keeper(true, false).create_ca().await;
    let with_value = |key: &str, value: Value| {
        let mut secret = secret.clone();
        secret["data"][key] = value;
        secret
    };
    for (unusable, why) in [
        (signed_at(&secret, crate::clock::now() + time::Duration::days(40)), "is valid from"),
        (with_value("issuing.key", "".into()), "the issuing CA's key"),
        (with_value("issuing.crt", "".into()), "exactly one"),
        (with_value("issuing.crt", other["data"]["issuing.crt"].clone()), "does not fit"),
    ] {
        // A new keeper, as after a restart.
        let mut fixture = start_keeper(true, true);
        fixture.respond_to_check(&unusable, &bundle).await;
        let call = fixture.server.expect("PATCH", SECRET).await;
        assert_eq!(call.body["data"]["root.crt"], secret["data"]["root.crt"]);
        assert_ne!(call.body["data"]["issuing.crt"], unusable["data"]["issuing.crt"]);
        assert_eq!(
            call.body["data"]["previous-issuing.crt"],
            Value::Null,
            "an unusable issuing CA is not kept"
        );
        call.written("2");
        fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
        let event = fixture.next_event().await;
        assert_eq!(event.reason, "SecretDamaged");
        assert!(event.note.contains(why), "{}", event.note);
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_uses_the_previous_issuing_ca() {
    let (secret, bundle) = start_keeper(true, false).create_ca().await;
    let mut unusable = signed_at(&secret, crate::clock::now() + time::Duration::days(40));
    unusable["data"]["previous-issuing.crt"] = secret["data"]["issuing.crt"].clone();
    unusable["data"]["previous-issuing.key"] = secret["data"]["issuing.key"].clone();
    let mut fixture = start_keeper(false, true);
    fixture.respond_to_check(&unusable, &bundle).await;
    let ca = fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap().clone();
    let pem = ca.authority.unwrap().issuing().certificate().pem().to_owned();
    assert_eq!(secret["data"]["issuing.crt"], BASE64_STANDARD.encode(pem));
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_differs_changes_nothing_and_is_reported_once() {
    for (ahead, words) in [(40, "40 days ahead"), (100, "100 days ahead"), (-40, "40 days behind")] {
        let mut fixture = start_keeper(true, false);
        let (secret, bundle) = fixture.create_ca().await;
        fixture.clock.move_ahead(time::Duration::days(ahead));
        for _ in 0..5 {
            fixture.respond_to_check(&secret, &bundle).await;
        }
        let event = fixture.next_event().await;
        assert_eq!(event.reason, "ClockDiffers");
        assert!(event.note.contains(words), "{}", event.note);
        assert!(fixture.events.try_recv().is_err(), "the same Event was repeated");
        assert!(fixture.ca.borrow().authority.is_ok(), "the CA in use stays");
        // The clock agrees again.
        fixture.clock.move_ahead(time::Duration::ZERO);
        fixture.respond_to_check(&secret, &bundle).await;
        fixture.server.expect_no_call().await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_ca_is_created_while_the_clock_differs() {
    let mut fixture = start_keeper_with_clock(Clock::ahead_by(time::Duration::days(40)), true, false);
    for _ in 0..2 {
        fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
        fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    }
    assert_eq!(fixture.next_event().await.reason, "ClockDiffers");
    let why = fixture.ca.borrow().authority.as_ref().unwrap_err().to_string();
    assert!(why.contains("40 days ahead"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_rotation_keeps_the_ca_and_is_retried_less_often() {
    let mut fixture = start_keeper(true, true);
    let (secret, bundle) = created_ago(time::Duration::days(40));
    let mut attempts = Vec::new();
    while attempts.len() < 4 {
        // Between attempts the CA is only read.
        let call = fixture.server.next_call().await;
        match (call.method.as_str(), call.path.as_str()) {
            ("PATCH", _) => {
                attempts.push(Instant::now());
                call.fail(403, "Forbidden");
            }
            (_, BUNDLE) => call.ok(bundle.clone()),
            _ => call.ok(secret.clone()),
        }
    }
    assert!(fixture.ca.borrow().authority.is_ok(), "the CA in use stays");
    let event = fixture.next_event().await;
    assert_eq!(event.reason, "IssuanceFailed");
    assert!(event.note.contains("a third of the issuing CA's lifetime has passed"), "{}", event.note);
    let waits: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && waits[0] < waits[2], "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn the_replaced_issuing_ca_is_kept_as_the_previous_one() {
    let mut fixture = start_keeper(true, true);
    let (secret, bundle) = created_ago(time::Duration::days(40));
    fixture.respond_to_check(&secret, &bundle).await;
    let call = fixture.server.expect("PATCH", SECRET).await;
    for part in ["crt", "key"] {
        assert_eq!(
            call.body["data"][format!("previous-issuing.{part}")],
            secret["data"][format!("issuing.{part}")]
        );
    }
    call.written("2");
}

/// Returns the Secret and the trust bundle of a CA that was created this long ago. Its root lives for ten years.
fn created_ago(ago: time::Duration) -> (Value, Value) {
    let (policy, now) = (Policy::default(), crate::clock::now() - ago);
    let trust_domain = &policy.trust_domain;
    let permitted = policy.permitted_dns();
    let key = || PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let serial = || crate::random::serial().unwrap();
    let root = RootProfile { trust_domain, lifetime: "3650d".parse().unwrap() };
    let lifetime = certmint_planner::ca::issuing_lifetime(&policy);
    let issuing = IssuingProfile { trust_domain, lifetime, permitted_dns: &permitted };
    let authority = Authority::create((&root, key(), serial()), (&issuing, key(), serial()), now).unwrap();
    let pem = authority.to_pem().unwrap();
    let encoded = |text: &str| BASE64_STANDARD.encode(text);
    let secret = json!({
        "metadata": { "name": "certmint-ca", "uid": "ca-1", "resourceVersion": "1" },
        "data": {
            "root.crt": encoded(&pem.root.certificate), "root.key": encoded(&pem.root.private_key),
            "issuing.crt": encoded(&pem.issuing.certificate), "issuing.key": encoded(&pem.issuing.private_key),
        },
    });
    (secret, json!({ "metadata": {}, "data": { "ca.crt": authority.trust_bundle() } }))
}

#[tokio::test(start_paused = true)]
async fn an_expired_issuing_ca_is_replaced_under_the_same_root() {
    let mut fixture = start_keeper(true, true);
    let (secret, bundle) = created_ago(time::Duration::days(100));
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret.clone());
    let call = fixture.server.expect("PATCH", SECRET).await;
    assert_eq!(call.body["data"]["root.crt"], secret["data"]["root.crt"]);
    assert_ne!(call.body["data"]["issuing.crt"], secret["data"]["issuing.crt"]);
    call.written("2");
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
    assert!(fixture.events.try_recv().is_err(), "expiration needs no action of an operator");
}

#[tokio::test(start_paused = true)]
async fn warns_of_a_root_in_its_last_months() {
    let mut fixture = start_keeper(true, true);
    let (secret, bundle) = created_ago(time::Duration::days(3_600));
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.server.expect("PATCH", SECRET).await.written("2");
    let ca = fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap().clone();
    let authority = ca.authority.unwrap();
    assert_eq!(authority.issuing().certificate().not_after(), authority.root().certificate().not_after());
    let event = fixture.next_event().await;
    assert_eq!(event.reason, "CaEndsSoon");
    assert!(event.note.contains("accept a new root before"));
}

#[tokio::test(start_paused = true)]
async fn an_expired_root_stops_issuance() {
    let mut fixture = start_keeper(true, true);
    let (secret, bundle) = created_ago(time::Duration::days(3_651));
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    let fault = fixture.wait_for_fault().await;
    assert!(fault.contains("the root CA expired at "), "{fault}");
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn the_ca_stays_in_use_while_the_api_server_is_away() {
    let mut fixture = start_keeper(true, false);
    fixture.create_ca().await;
    fixture.server.expect("GET", BUNDLE).await.fail(503, "ServiceUnavailable");
    fixture.server.expect("GET", BUNDLE).await.fail(503, "ServiceUnavailable");
    assert!(fixture.ca.borrow().authority.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_policy_with_other_names_replaces_the_issuing_ca() {
    let mut fixture = start_keeper(true, false);
    let (secret, bundle) = fixture.create_ca().await;
    let policy = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#).unwrap();
    fixture._senders.0.send_replace(Arc::new(policy));
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret.clone());
    let call = fixture.server.expect("PATCH", SECRET).await;
    assert_eq!(call.body["metadata"], json!({ "uid": "ca-1", "resourceVersion": "1" }));
    assert_eq!(call.body["data"]["root.crt"], secret["data"]["root.crt"]);
    assert_ne!(call.body["data"]["issuing.crt"], secret["data"]["issuing.crt"]);
    call.written("2");
}
