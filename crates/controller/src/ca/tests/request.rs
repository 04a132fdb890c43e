//! Tests of an operator's request for a new issuing CA.

use super::rotation::decoded;
use super::*;

/// Sets the data of the ConfigMap with the request.
fn set_request(fixture: &Fixture, data: Value) {
    fixture.server.set_object(REQUEST, Some(json!({ "metadata": {}, "data": data })));
}

/// Returns the Secret after the write of the call, and responds to the call.
fn written(secret: &Value, call: crate::testing::Call) -> Value {
    let mut after = patched(secret, &call.body);
    after["metadata"]["resourceVersion"] = "2".into();
    call.written("2");
    after
}

/// Requests a new issuing CA. Returns the call that the leader then sends.
async fn request_and_expect_write(
    fixture: &mut Fixture,
    (secret, bundle): (&Value, &Value),
    request: Value,
) -> crate::testing::Call {
    set_request(fixture, request);
    fixture.respond_to_check(secret, bundle).await;
    fixture.server.expect("PATCH", SECRET).await
}

#[tokio::test(start_paused = true)]
async fn a_request_replaces_the_issuing_ca_and_is_recorded_by_the_same_write() {
    let mut fixture = start_keeper(true, false);
    let (mut secret, bundle) = fixture.create_ca().await;
    secret["data"]["previous-issuing.crt"] = secret["data"]["issuing.crt"].clone();
    let before = fixture.ca.borrow().clone();
    let request = json!({ "id": "a", "reason": "exercise", "reissue": "true" });
    let call = request_and_expect_write(&mut fixture, (&secret, &bundle), request).await;
    assert_eq!(call.body["metadata"], json!({ "uid": "ca-1", "resourceVersion": "1" }));
    let after = written(&secret, call);
    assert_eq!(after["data"]["root.crt"], secret["data"]["root.crt"]);
    assert_ne!(after["data"]["issuing.crt"], secret["data"]["issuing.crt"]);
    for part in ["crt", "key"] {
        assert_eq!(after["data"][format!("previous-issuing.{part}")], "", "the replaced CA is not kept");
    }
    let state: Value = serde_json::from_str(&decoded(&after, "state.json")).unwrap();
    assert_eq!(state["issuingReplacement"]["id"], "a");
    assert_eq!(state["issuingReplacement"]["reason"], "exercise");
    assert_eq!(state["issuingReplacement"]["at"], state["reissueSince"]);
    let event = fixture.next_event().await;
    assert_eq!(event.reason, "IssuingCaReplaced");
    assert!(event.note.contains("as request a (exercise) asks"), "{}", event.note);
    let ca = fixture.ca.wait_for(|ca| ca.reissue_since.is_some()).await.unwrap().clone();
    let key = |ca: &Ca| ca.authority.as_ref().unwrap().issuing().certificate().key_identifier().to_string();
    assert_ne!(key(&ca), key(&before));
    // The request is carried out once, also by another leader.
    for mut keeper in [fixture, start_keeper(true, true)] {
        set_request(&keeper, json!({ "id": "a", "reason": "exercise", "reissue": "true" }));
        keeper.respond_to_check(&after, &bundle).await;
        let since = keeper.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap().reissue_since;
        assert_eq!(since, ca.reissue_since);
        keeper.server.expect_no_call().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_carries_out_no_request() {
    let (secret, bundle) = start_keeper(true, false).create_ca().await;
    let mut fixture = start_keeper(false, true);
    set_request(&fixture, json!({ "id": "a", "reason": "exercise" }));
    for _ in 0..2 {
        fixture.respond_to_check(&secret, &bundle).await;
    }
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_another_leader_carried_out_is_not_repeated() {
    let mut fixture = start_keeper(true, false);
    let (secret, bundle) = fixture.create_ca().await;
    let request = json!({ "id": "a", "reason": "exercise" });
    let call = request_and_expect_write(&mut fixture, (&secret, &bundle), request).await;
    let mut by_other = secret.clone();
    by_other["data"]["state.json"] = call.body["data"]["state.json"].clone();
    call.fail(409, "Conflict");
    fixture.respond_to_check(&by_other, &bundle).await;
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_to_the_write_repeats_nothing() {
    let mut fixture = start_keeper(true, false);
    let (secret, bundle) = fixture.create_ca().await;
    let request = json!({ "id": "a", "reason": "exercise" });
    let call = request_and_expect_write(&mut fixture, (&secret, &bundle), request).await;
    let after = patched(&secret, &call.body);
    call.fail(503, "ServiceUnavailable");
    fixture.respond_to_check(&after, &bundle).await;
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_later_replacement_keeps_the_record() {
    let mut fixture = start_keeper(true, false);
    let (secret, bundle) = fixture.create_ca().await;
    let request = json!({ "id": "a", "reason": "exercise", "reissue": "true" });
    let call = request_and_expect_write(&mut fixture, (&secret, &bundle), request).await;
    let after = written(&secret, call);
    let policy = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#).unwrap();
    fixture.ca.wait_for(|ca| ca.reissue_since.is_some()).await.unwrap();
    fixture.policy.send_replace(Arc::new(policy));
    fixture.respond_to_check(&after, &bundle).await;
    let call = fixture.server.expect("PATCH", SECRET).await;
    assert_eq!(call.body["data"]["state.json"], after["data"]["state.json"]);
    assert_eq!(call.body["data"]["previous-issuing.crt"], after["data"]["issuing.crt"]);
    call.written("3");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_request_is_reported_once_and_changes_nothing() {
    let mut fixture = start_keeper(true, false);
    let (secret, bundle) = fixture.create_ca().await;
    set_request(&fixture, json!({ "id": "a" }));
    for _ in 0..3 {
        fixture.respond_to_check(&secret, &bundle).await;
    }
    let event = fixture.next_event().await;
    assert_eq!(event.reason, "RequestRefused");
    assert!(event.note.contains("request a has no usable reason"), "{}", event.note);
    assert!(fixture.events.try_recv().is_err(), "the same Event was repeated");
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_does_not_stop_issuance() {
    let (secret, bundle) = start_keeper(true, false).create_ca().await;
    let mut fixture = start_keeper(true, true);
    fixture.server.forget_object(REQUEST);
    for _ in 0..2 {
        fixture.respond_to_check(&secret, &bundle).await;
        fixture.server.expect("GET", REQUEST).await.fail(403, "Forbidden");
    }
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
    let event = fixture.next_event().await;
    assert_eq!(event.reason, "MissingPermission");
    assert!(fixture.events.try_recv().is_err(), "the same Event was repeated");
    // A ConfigMap that does not exist is not a request.
    fixture.server.set_object(REQUEST, None);
    fixture.respond_to_check(&secret, &bundle).await;
    fixture.server.expect_no_call().await;
    assert!(fixture.events.try_recv().is_err());
}
