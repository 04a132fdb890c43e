use super::*;
use crate::{
    clock::Clock,
    events::{Events, Subject},
    testing::{ApiServer, api_server},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use certmint_certificates::{
    PrivateKey,
    ca::{IssuingProfile, RootProfile},
};
use certmint_contract::{KeyAlgorithm, Policy};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const SECRETS: &str = "/api/v1/namespaces/certmint-system/secrets";
const SECRET: &str = "/api/v1/namespaces/certmint-system/secrets/certmint-ca";
const BUNDLES: &str = "/api/v1/namespaces/certmint-system/configmaps";
const BUNDLE: &str = "/api/v1/namespaces/certmint-system/configmaps/certmint-trust-bundle";

struct Fixture {
    server: ApiServer,
    ca: watch::Receiver<Ca>,
    told: tokio::sync::mpsc::Receiver<crate::events::Unwritten>,
    clock: Clock,
    _senders: (watch::Sender<Arc<Policy>>, watch::Sender<Option<Instant>>),
}

/// A keeper at work, leading or not, in a cluster with or without Secrets that a CA has signed.
fn keeping(leading: bool, has_issued: bool) -> Fixture {
    keeping_by(Clock::default(), leading, has_issued)
}

/// The same by a clock that may differ from the API server's.
fn keeping_by(clock: Clock, leading: bool, has_issued: bool) -> Fixture {
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
    let (events, told) = Events::new("controller-0");
    let ourselves = Subject {
        api_version: "apps/v1",
        kind: "Deployment",
        namespace: "certmint-system".into(),
        name: "certmint-controller".into(),
        uid: None,
    };
    let store = Store::new(client, names);
    let trace = move || has_issued.then(|| "Secret shop/payments-certmint-tls".to_owned());
    let keeper = Keeper { store, ca: sender, policy, terms, clock: clock.clone(), trace, events, ourselves };
    tokio::spawn(keeper.run());
    Fixture { server, ca, told, clock, _senders: (policy_sender, terms_sender) }
}

impl Fixture {
    /// A first leader makes the CA; returns its Secret and the published bundle.
    async fn make(&mut self) -> (Value, Value) {
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

    /// The API server is asked for the CA once, and has that.
    async fn looks_at(&mut self, secret: &Value, bundle: &Value) {
        self.server.expect("GET", BUNDLE).await.ok(bundle.clone());
        self.server.expect("GET", SECRET).await.ok(secret.clone());
    }

    async fn told(&mut self) -> crate::events::Unwritten {
        let told = tokio::time::timeout(Duration::from_secs(60), self.told.recv()).await;
        told.expect("no Event").unwrap()
    }

    async fn fault(&mut self) -> String {
        let lost = self.ca.wait_for(|ca| ca.authority.is_err() && !ca.is_on_its_way());
        let ca = tokio::time::timeout(Duration::from_secs(60), lost).await.expect("no fault").unwrap();
        ca.authority.as_ref().unwrap_err().to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_leader_makes_the_ca_and_publishes_its_root() {
    let mut fixture = keeping(true, false);
    let (secret, bundle) = fixture.make().await;
    let data = secret["data"].as_object().unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["issuing.crt", "issuing.key", "root.crt", "root.key"]);
    let roots = fixture.ca.borrow().roots.clone().unwrap();
    assert_eq!(bundle["data"], json!({ "ca.crt": *roots }));
    assert!(!bundle.to_string().contains("PRIVATE"));
    // The next look finds everything in its place.
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_is_second_takes_the_ca_of_the_first() {
    let (secret, bundle) = keeping(true, false).make().await;
    let mut fixture = keeping(true, false);
    fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
    fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
    fixture.server.expect("GET", BUNDLE).await.ok(bundle.clone());
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
    assert_eq!(bundle["data"]["ca.crt"], *fixture.ca.borrow().roots.clone().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_follower_makes_nothing_and_waits() {
    let mut fixture = keeping(false, false);
    for _ in 0..2 {
        fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
        fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    }
    assert!(fixture.ca.borrow().is_on_its_way());
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_left_traces_is_never_made_again() {
    for (published, has_issued) in [(true, false), (false, true)] {
        let mut fixture = keeping(true, has_issued);
        let call = fixture.server.expect("GET", BUNDLE).await;
        match published {
            true => call.ok(json!({ "metadata": {}, "data": { "ca.crt": "roots" } })),
            false => call.fail(404, "NotFound"),
        }
        fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
        let fault = fixture.fault().await;
        assert!(fault.contains("certmint-system/certmint-ca") && fault.contains("restore"), "{fault}");
        assert_eq!(fixture.told.recv().await.unwrap().reason, "CaUnavailable");
        fixture.server.expect_silence().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ca_deleted_while_in_use_stops_issuance_until_it_is_restored() {
    let mut fixture = keeping(true, false);
    let (secret, bundle) = fixture.make().await;
    // Even with its marker gone as well.
    fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
    fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    fixture.fault().await;
    assert!(fixture.ca.borrow().roots.is_some(), "what was issued stays verifiable");
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_root_in_its_place_stops_issuance() {
    let (other, _) = keeping(true, false).make().await;
    let mut fixture = keeping(true, false);
    let (_, bundle) = fixture.make().await;
    let ours = fixture.ca.borrow().roots.clone();
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(other);
    assert!(fixture.fault().await.contains("another root"));
    assert_eq!(fixture.ca.borrow().roots, ours);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_root_stops_issuance() {
    let mut fixture = keeping(true, false);
    let (mut secret, bundle) = fixture.make().await;
    secret["data"].as_object_mut().unwrap().remove("root.key");
    fixture.looks_at(&secret, &bundle).await;
    let fault = fixture.fault().await;
    assert!(fault.contains("the root CA's key"), "{fault}");
}

/// The Secret with an issuing CA instead that the same root signed at another time.
fn signed_at(secret: &Value, at: time::OffsetDateTime) -> Value {
    let text = |key: &str| {
        let encoded = secret["data"][key].as_str().unwrap();
        String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
    };
    let policy = Policy::default();
    let root =
        certmint_certificates::Root::from_pem(&text("root.crt"), &text("root.key"), crate::clock::now());
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
async fn an_issuing_ca_that_is_damaged_or_from_the_future_is_replaced_by_the_same_root() {
    let (secret, bundle) = keeping(true, false).make().await;
    let (other, _) = keeping(true, false).make().await;
    let spoilt = |key: &str, value: Value| {
        let mut secret = secret.clone();
        secret["data"][key] = value;
        secret
    };
    for (unusable, why) in [
        (signed_at(&secret, crate::clock::now() + time::Duration::days(40)), "is valid from"),
        (spoilt("issuing.key", "".into()), "the issuing CA's key"),
        (spoilt("issuing.crt", "".into()), "exactly one"),
        (spoilt("issuing.crt", other["data"]["issuing.crt"].clone()), "does not fit"),
    ] {
        // Started anew, as after a restart.
        let mut fixture = keeping(true, true);
        fixture.looks_at(&unusable, &bundle).await;
        let call = fixture.server.expect("PATCH", SECRET).await;
        assert_eq!(call.body["data"]["root.crt"], secret["data"]["root.crt"]);
        assert_ne!(call.body["data"]["issuing.crt"], unusable["data"]["issuing.crt"]);
        assert_eq!(call.body["data"]["previous-issuing.crt"], Value::Null, "what cannot be used is not kept");
        call.written("2");
        fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
        let told = fixture.told().await;
        assert_eq!(told.reason, "SecretDamaged");
        assert!(told.note.contains(why), "{}", told.note);
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_leaves_the_repair_to_the_leader_and_goes_on_with_the_previous_issuing_ca() {
    let (secret, bundle) = keeping(true, false).make().await;
    let mut unusable = signed_at(&secret, crate::clock::now() + time::Duration::days(40));
    unusable["data"]["previous-issuing.crt"] = secret["data"]["issuing.crt"].clone();
    unusable["data"]["previous-issuing.key"] = secret["data"]["issuing.key"].clone();
    let mut fixture = keeping(false, true);
    fixture.looks_at(&unusable, &bundle).await;
    let ca = fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap().clone();
    let pem = ca.authority.unwrap().issuing().certificate().pem().to_owned();
    assert_eq!(secret["data"]["issuing.crt"], BASE64_STANDARD.encode(pem));
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_changes_nothing_and_is_told_once() {
    for (ahead, words) in [(40, "40 days ahead"), (100, "100 days ahead"), (-40, "40 days behind")] {
        let mut fixture = keeping(true, false);
        let (secret, bundle) = fixture.make().await;
        fixture.clock.move_ahead(time::Duration::days(ahead));
        for _ in 0..5 {
            fixture.looks_at(&secret, &bundle).await;
        }
        let told = fixture.told().await;
        assert_eq!(told.reason, "ClockDiffers");
        assert!(told.note.contains(words), "{}", told.note);
        assert!(fixture.told.try_recv().is_err(), "told again and again");
        assert!(fixture.ca.borrow().authority.is_ok(), "the CA in use stays");
        // The clock is right again.
        fixture.clock.move_ahead(time::Duration::ZERO);
        fixture.looks_at(&secret, &bundle).await;
        fixture.server.expect_silence().await;
    }
}

#[tokio::test(start_paused = true)]
async fn by_a_wrong_clock_no_ca_is_made() {
    let mut fixture = keeping_by(Clock::ahead_by(time::Duration::days(40)), true, false);
    for _ in 0..2 {
        fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
        fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    }
    assert_eq!(fixture.told().await.reason, "ClockDiffers");
    let why = fixture.ca.borrow().authority.as_ref().unwrap_err().to_string();
    assert!(why.contains("40 days ahead"), "what readiness says: {why}");
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_fails_leaves_the_working_ca_in_use_and_is_tried_less_and_less_often() {
    let mut fixture = keeping(true, true);
    let (secret, bundle) = made_ago(time::Duration::days(40));
    let mut attempts = Vec::new();
    while attempts.len() < 4 {
        // Between attempts the CA is only looked at.
        let call = fixture.server.any().await;
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
    let told = fixture.told().await;
    assert_eq!(told.reason, "IssuanceFailed");
    assert!(told.note.contains("a third of the issuing CA's life is over"), "{}", told.note);
    let waits: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && waits[0] < waits[2], "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn the_replaced_issuing_ca_is_kept_beside_the_new_one() {
    let mut fixture = keeping(true, true);
    let (secret, bundle) = made_ago(time::Duration::days(40));
    fixture.looks_at(&secret, &bundle).await;
    let call = fixture.server.expect("PATCH", SECRET).await;
    for part in ["crt", "key"] {
        assert_eq!(
            call.body["data"][format!("previous-issuing.{part}")],
            secret["data"][format!("issuing.{part}")]
        );
    }
    call.written("2");
}

/// The Secret and the published bundle of a CA that was made so long ago, with a root of ten years.
fn made_ago(ago: time::Duration) -> (Value, Value) {
    let (policy, now) = (Policy::default(), crate::clock::now() - ago);
    let trust_domain = &policy.trust_domain;
    let permitted = policy.permitted_dns();
    let key = || PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let serial = || crate::random::serial().unwrap();
    let root = RootProfile { trust_domain, lifetime: "3650d".parse().unwrap() };
    let lifetime = certmint_planner::ca::issuing_lifetime(&policy);
    let issuing = IssuingProfile { trust_domain, lifetime, permitted_dns: &permitted };
    let made = Authority::create((&root, key(), serial()), (&issuing, key(), serial()), now).unwrap();
    let pem = made.to_pem().unwrap();
    let encoded = |text: &str| BASE64_STANDARD.encode(text);
    let secret = json!({
        "metadata": { "name": "certmint-ca", "uid": "ca-1", "resourceVersion": "1" },
        "data": {
            "root.crt": encoded(&pem.root.certificate), "root.key": encoded(&pem.root.private_key),
            "issuing.crt": encoded(&pem.issuing.certificate), "issuing.key": encoded(&pem.issuing.private_key),
        },
    });
    (secret, json!({ "metadata": {}, "data": { "ca.crt": made.trust_bundle() } }))
}

#[tokio::test(start_paused = true)]
async fn an_expired_issuing_ca_is_replaced_by_the_same_root() {
    let mut fixture = keeping(true, true);
    let (secret, bundle) = made_ago(time::Duration::days(100));
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret.clone());
    let call = fixture.server.expect("PATCH", SECRET).await;
    assert_eq!(call.body["data"]["root.crt"], secret["data"]["root.crt"]);
    assert_ne!(call.body["data"]["issuing.crt"], secret["data"]["issuing.crt"]);
    call.written("2");
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
    assert!(fixture.told.try_recv().is_err(), "nobody needs to do anything");
}

#[tokio::test(start_paused = true)]
async fn a_root_in_its_last_months_is_told_of_and_serves_until_its_end() {
    let mut fixture = keeping(true, true);
    let (secret, bundle) = made_ago(time::Duration::days(3_600));
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.server.expect("PATCH", SECRET).await.written("2");
    let ca = fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap().clone();
    let authority = ca.authority.unwrap();
    assert_eq!(authority.issuing().certificate().not_after(), authority.root().certificate().not_after());
    let told = tokio::time::timeout(Duration::from_secs(60), fixture.told.recv()).await.expect("no Event");
    let told = told.unwrap();
    assert_eq!(told.reason, "CaEndsSoon");
    assert!(told.note.contains("accept a new root before"));
}

#[tokio::test(start_paused = true)]
async fn an_expired_root_stops_issuance() {
    let mut fixture = keeping(true, true);
    let (secret, bundle) = made_ago(time::Duration::days(3_651));
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    let fault = fixture.fault().await;
    assert!(fault.contains("the root CA expired at "), "{fault}");
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_the_ca_in_use_stays() {
    let mut fixture = keeping(true, false);
    fixture.make().await;
    fixture.server.expect("GET", BUNDLE).await.fail(503, "ServiceUnavailable");
    fixture.server.expect("GET", BUNDLE).await.fail(503, "ServiceUnavailable");
    assert!(fixture.ca.borrow().authority.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_policy_with_other_names_makes_a_new_issuing_ca_under_the_same_root() {
    let mut fixture = keeping(true, false);
    let (secret, bundle) = fixture.make().await;
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
