//! Tests of the CA's keeper against the mock API server.

mod offline;
mod request;
mod rotation;

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use certmint_contract::Policy;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::clock::Clock;
use crate::events::{Events, InvolvedObject};
use crate::testing::{MockApiServer, api_server};

const SECRETS: &str = "/api/v1/namespaces/certmint-system/secrets";
const SECRET: &str = "/api/v1/namespaces/certmint-system/secrets/certmint-ca";
const BUNDLES: &str = "/api/v1/namespaces/certmint-system/configmaps";
const REQUEST: &str = "/api/v1/namespaces/certmint-system/configmaps/certmint-issuing-ca-request";
const BUNDLE: &str = "/api/v1/namespaces/certmint-system/configmaps/certmint-trust-bundle";

struct Fixture {
    server: MockApiServer,
    ca: watch::Receiver<Ca>,
    events: tokio::sync::mpsc::Receiver<crate::events::PendingEvent>,
    clock: Clock,
    /// Gauges of an offline root.
    gauges: OfflineGauges,
    policy: watch::Sender<Arc<Policy>>,
    /// Keeps the channel open.
    _terms: watch::Sender<Option<Instant>>,
}

/// Starts a keeper, as leader or follower, in a cluster with or without evidence of an earlier CA.
fn start_keeper(leading: bool, has_issued: bool) -> Fixture {
    start_keeper_with(Clock::default(), false, leading, has_issued)
}

/// Starts a keeper whose root is offline.
fn start_offline_keeper(leading: bool, has_issued: bool) -> Fixture {
    start_keeper_with(Clock::default(), true, leading, has_issued)
}

/// Starts a keeper with this clock.
fn start_keeper_with_clock(clock: Clock, leading: bool, has_issued: bool) -> Fixture {
    start_keeper_with(clock, false, leading, has_issued)
}

fn start_keeper_with(clock: Clock, is_offline: bool, leading: bool, has_issued: bool) -> Fixture {
    let (client, server) = api_server();
    // The chart creates the ConfigMap empty.
    server.set_object(REQUEST, Some(json!({ "metadata": {} })));
    let names = CaNames {
        namespace: "certmint-system".into(),
        secret: "certmint-ca".into(),
        bundle: "certmint-trust-bundle".into(),
        issuing_request: "certmint-issuing-ca-request".into(),
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
    let gauges = OfflineGauges::default();
    let exchange_names = ExchangeNames {
        namespace: "certmint-system".into(),
        request: "certmint-ca-request".into(),
        import: "certmint-ca-import".into(),
    };
    let exchange = Exchange::new(client.clone(), exchange_names);
    let offline = is_offline.then(|| OfflineRoot { exchange, gauges: gauges.clone() });
    let store = CaStore::new(client, names);
    let find_evidence_of_earlier_ca =
        move || has_issued.then(|| "Secret shop/payments-certmint-tls".to_owned());
    let keeper = CaKeeper {
        store,
        ca: sender,
        policy,
        terms,
        clock: clock.clone(),
        offline,
        find_evidence_of_earlier_ca,
        events,
        own_deployment,
    };
    tokio::spawn(keeper.run());
    Fixture { server, ca, events: pending, clock, gauges, policy: policy_sender, _terms: terms_sender }
}

/// Returns the Secret with the entries of a patch.
fn patched(secret: &Value, patch: &Value) -> Value {
    let mut secret = secret.clone();
    for (key, value) in patch["data"].as_object().unwrap() {
        secret["data"][key] = value.clone();
    }
    secret
}

impl Fixture {
    /// Lets a first leader create the CA's Secret in an empty cluster. Returns the Secret.
    async fn create_secret(&mut self) -> Value {
        self.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
        self.server.expect("GET", SECRET).await.fail(404, "NotFound");
        let call = self.server.expect("POST", SECRETS).await;
        let mut secret = call.body.clone();
        secret["metadata"]["resourceVersion"] = "1".into();
        secret["metadata"]["uid"] = "ca-1".into();
        call.ok(secret.clone());
        secret
    }

    /// Lets a first leader create the CA. Returns its Secret and the published trust bundle.
    async fn create_ca(&mut self) -> (Value, Value) {
        let secret = self.create_secret().await;
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
    assert_eq!(
        data.keys().collect::<Vec<_>>(),
        ["issuing.crt", "issuing.key", "root.crt", "root.key", "state.json"]
    );
    let trusted = fixture.ca.borrow().trust_bundle.clone().unwrap();
    assert_eq!(bundle["data"], json!({ "ca.crt": trusted.roots, "trust-generation": "1" }));
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
    assert_eq!(bundle["data"]["ca.crt"], fixture.ca.borrow().trust_bundle.clone().unwrap().roots);
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
    assert!(fixture.ca.borrow().trust_bundle.is_some(), "existing certificates can still be verified");
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_root_stops_issuance() {
    let (other, _) = start_keeper(true, false).create_ca().await;
    let mut fixture = start_keeper(true, false);
    let (_, bundle) = fixture.create_ca().await;
    let before = fixture.ca.borrow().trust_bundle.clone();
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(other);
    assert!(fixture.wait_for_fault().await.contains("other roots"));
    assert_eq!(fixture.ca.borrow().trust_bundle, before);
}

/// Returns the CA's Secret with the root of another CA in addition, as the trust set of that generation.
fn with_second_root(secret: &Value, other: &Value, generation: u64) -> Value {
    let text = |secret: &Value| BASE64_STANDARD.decode(secret["data"]["root.crt"].as_str().unwrap()).unwrap();
    let mut changed = secret.clone();
    changed["data"]["root.crt"] = BASE64_STANDARD.encode([text(secret), text(other)].concat()).into();
    let state = format!(r#"{{"format":1,"trustGeneration":{generation}}}"#);
    changed["data"]["state.json"] = BASE64_STANDARD.encode(state).into();
    changed
}

#[tokio::test(start_paused = true)]
async fn a_newer_generation_of_roots_is_published() {
    let (other, _) = start_keeper(true, false).create_ca().await;
    let mut fixture = start_keeper(true, false);
    let (secret, bundle) = fixture.create_ca().await;
    let secret = with_second_root(&secret, &other, 2);
    fixture.respond_to_check(&secret, &bundle).await;
    let call = fixture.server.expect("PATCH", BUNDLE).await;
    assert_eq!(call.body["data"]["trust-generation"], "2");
    let published = json!({ "metadata": {}, "data": call.body["data"] });
    call.ok(published.clone());
    let trusts_both =
        |ca: &Ca| ca.trust_bundle.as_ref().is_some_and(|bundle| bundle.roots.matches("BEGIN").count() == 2);
    let ca = fixture.ca.wait_for(trusts_both).await.unwrap().clone();
    let authority = ca.authority.unwrap();
    assert_eq!(authority.trust_bundle().generation.to_string(), "2");
    assert_eq!(published["data"]["ca.crt"], authority.trust_bundle().roots);
    assert!(authority.trust_bundle().roots.contains(authority.root().certificate().pem()));
    // The next check finds nothing to do.
    fixture.respond_to_check(&secret, &published).await;
    fixture.respond_to_check(&secret, &published).await;
}

#[tokio::test(start_paused = true)]
async fn an_older_or_unknown_generation_of_roots_stops_issuance() {
    let (other, _) = start_keeper(true, false).create_ca().await;
    for (state, fault) in [
        (&b"\xff"[..], "state.json is not known to this version of Certmint"),
        (br#"{"format":1,"trustGeneration":1}"#, "other roots than the published trust bundle"),
        (br#"{"format":2,"trustGeneration":2}"#, "state.json is not known to this version of Certmint"),
        (br#"{"format":1,"trustGeneration":2,"rotation":{}}"#, "unknown field `rotation`"),
    ] {
        let mut fixture = start_keeper(true, false);
        let (secret, bundle) = fixture.create_ca().await;
        let mut secret = with_second_root(&secret, &other, 1);
        secret["data"]["state.json"] = BASE64_STANDARD.encode(state).into();
        fixture.respond_to_check(&secret, &bundle).await;
        let found = fixture.wait_for_fault().await;
        assert!(found.contains(fault), "{found}");
        assert_eq!(fixture.next_event().await.reason, "CaUnavailable");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restored_secret_keeps_the_published_generation() {
    let mut fixture = start_keeper(true, false);
    let (mut secret, mut bundle) = fixture.create_ca().await;
    // The Secret is a backup of version 0.1.0.
    secret["data"].as_object_mut().unwrap().remove("state.json");
    bundle["data"]["trust-generation"] = "3".into();
    fixture.respond_to_check(&secret, &bundle).await;
    let is_third =
        |ca: &Ca| ca.trust_bundle.as_ref().is_some_and(|bundle| bundle.generation.to_string() == "3");
    fixture.ca.wait_for(is_third).await.unwrap();
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
async fn the_ca_stays_in_use_while_the_api_server_is_away() {
    let mut fixture = start_keeper(true, false);
    fixture.create_ca().await;
    fixture.server.expect("GET", BUNDLE).await.fail(503, "ServiceUnavailable");
    fixture.server.expect("GET", BUNDLE).await.fail(503, "ServiceUnavailable");
    assert!(fixture.ca.borrow().authority.is_ok());
}
