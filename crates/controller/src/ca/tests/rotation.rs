//! Tests of the rotation of the issuing CA, and of the end of the root.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use certmint_certificates::PrivateKey;
use certmint_certificates::ca::{IssuingProfile, RootProfile};
use certmint_contract::KeyAlgorithm;

use super::*;

/// Returns the decoded text of a key of the Secret.
pub(super) fn decoded(secret: &Value, key: &str) -> String {
    let encoded = secret["data"][key].as_str().unwrap();
    String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
}

/// Returns the Secret with another issuing CA, which the same root signed at the time `at`.
fn signed_at(secret: &Value, at: time::OffsetDateTime) -> Value {
    let (certificate, key) = (decoded(secret, "root.crt"), decoded(secret, "root.key"));
    let policy = Policy::default();
    let root = certmint_certificates::RootCa::from_pem(&certificate, &key, crate::clock::now());
    let profile = IssuingProfile {
        trust_domain: &policy.trust_domain,
        lifetime: policy.ca.issuing_lifetime,
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
        (with_value("issuing.crt", other["data"]["issuing.crt"].clone()), "does not belong to"),
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
async fn a_failed_rotation_keeps_the_ca_and_is_retried_less_often() {
    let mut fixture = start_keeper(true, true);
    let (secret, bundle) = ca_of_age(time::Duration::days(40));
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
    let (secret, bundle) = ca_of_age(time::Duration::days(40));
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

/// Returns the Secret and the trust bundle of a CA that was created at the time `age` before now. The lifetime
/// of its root is ten years.
fn ca_of_age(age: time::Duration) -> (Value, Value) {
    let (policy, now) = (Policy::default(), crate::clock::now() - age);
    let trust_domain = &policy.trust_domain;
    let permitted = policy.permitted_dns();
    let key = || PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let serial = || crate::random::serial().unwrap();
    let root = RootProfile { trust_domain, lifetime: "3650d".parse().unwrap() };
    let lifetime = policy.ca.issuing_lifetime;
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
    (secret, json!({ "metadata": {}, "data": { "ca.crt": authority.trust_bundle().roots } }))
}

#[tokio::test(start_paused = true)]
async fn an_expired_issuing_ca_is_replaced_under_the_same_root() {
    let mut fixture = start_keeper(true, true);
    let (secret, bundle) = ca_of_age(time::Duration::days(100));
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
    let (secret, bundle) = ca_of_age(time::Duration::days(3_600));
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
    let (secret, bundle) = ca_of_age(time::Duration::days(3_651));
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret);
    let fault = fixture.wait_for_fault().await;
    assert!(fault.contains("the root CA expired at "), "{fault}");
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_with_other_names_replaces_the_issuing_ca() {
    let mut fixture = start_keeper(true, false);
    let (secret, bundle) = fixture.create_ca().await;
    let policy = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#).unwrap();
    fixture.policy.send_replace(Arc::new(policy));
    fixture.server.expect("GET", BUNDLE).await.ok(bundle);
    fixture.server.expect("GET", SECRET).await.ok(secret.clone());
    let call = fixture.server.expect("PATCH", SECRET).await;
    assert_eq!(call.body["metadata"], json!({ "uid": "ca-1", "resourceVersion": "1" }));
    assert_eq!(call.body["data"]["root.crt"], secret["data"]["root.crt"]);
    assert_ne!(call.body["data"]["issuing.crt"], secret["data"]["issuing.crt"]);
    call.written("2");
}
