//! A node's clock that is not the controller's. The certificates here are of another time, not the process.

use crate::fixtures::api::{Api, ok};
use crate::fixtures::{Ca, Pod, until};
use certmint_contract::{issuance::Bundle, pod_layout};
use rustls::version::TLS13;

/// Seconds; a certificate of that age was issued by a clock ahead of this one.
const HOUR: i64 = 3600;

/// What a pod says that finds only this Secret, and its last words.
fn judged(ca: &Ca, secret: &Bundle) -> (bool, String) {
    let pod = Pod::new(ca);
    pod.write_secret(secret);
    let _process = pod.start(&["once"]);
    until("a judgement", || pod.published().is_some() || !pod.termination_message().is_empty());
    (pod.published().is_some(), pod.termination_message())
}

#[test]
fn a_clock_minutes_behind_does_no_harm() {
    let ca = Ca::new();
    let (accepted, told) = judged(&ca, &ca.bundle_of_age(-4 * 60));
    assert!(accepted, "{told}");
}

#[test]
fn a_clock_an_hour_behind_is_named() {
    let ca = Ca::new();
    let (accepted, told) = judged(&ca, &ca.bundle_of_age(-HOUR));
    assert!(!accepted);
    assert!(told.contains("valid from ") && told.contains("This node's clock says "), "{told}");
    assert!(told.contains("correct it if it is wrong"), "{told}");
}

#[test]
fn a_clock_an_hour_ahead_is_named_when_a_certificate_seems_over() {
    let ca = Ca::new();
    let (accepted, told) = judged(&ca, &ca.bundle_of_age_and_life(HOUR, 1800));
    assert!(!accepted);
    assert!(told.contains("expired at ") && told.contains("This node's clock says "), "{told}");
}

#[test]
fn a_clock_an_hour_ahead_does_no_harm_to_what_lives_longer() {
    let ca = Ca::new();
    let (accepted, told) = judged(&ca, &ca.bundle_of_age(HOUR));
    assert!(accepted, "{told}");
}

#[test]
fn an_issuance_api_of_another_time_is_not_taken_for_an_impostor() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    for (age, since) in [(-HOUR, "it is valid from 20"), (25 * HOUR, "it expired at 20")] {
        let given = bundle.clone();
        let api = Api::start_showing(&ca.server_bundle_of_age(age), &TLS13, move |_, _| ok(&given));
        let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
        let _process = pod.start(&["once"]);
        pod.until_told("Correct the clock of this pod's node");
        let told = pod.termination_message();
        assert!(told.contains(since), "{told}");
        assert_eq!(pod.published(), None);
    }
}

#[test]
fn an_answer_of_another_time_names_the_clock() {
    let ca = Ca::new();
    let given = ca.bundle_of_age(-HOUR);
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let _process = pod.start(&["once"]);
    pod.until_told("the issuance API's answer was not used");
    let told = pod.termination_message();
    assert!(told.contains("This node's clock says "), "{told}");
}
