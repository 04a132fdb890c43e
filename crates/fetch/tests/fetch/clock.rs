//! Nodes whose clock differs from the controller's. The tests shift the validity of the certificates, not the clock.

use certmint_contract::issuance::Bundle;
use certmint_contract::pod_layout;
use rustls::version::TLS13;

use crate::fixtures::api::{Api, ok};
use crate::fixtures::{Ca, Pod, wait_until};

/// An hour in seconds. A negative age means that the clock of the issuer was ahead of this node's clock.
const HOUR: i64 = 3600;

/// Starts a pod that has only this Secret. Returns whether the pod published it, and the termination message.
fn publish_secret(ca: &Ca, secret: &Bundle) -> (bool, String) {
    let pod = Pod::new(ca);
    pod.write_secret(secret);
    let _process = pod.start(&["once"]);
    wait_until("the Secret published or rejected", || {
        pod.published().is_some() || !pod.termination_message().is_empty()
    });
    (pod.published().is_some(), pod.termination_message())
}

#[test]
fn tolerates_a_clock_some_minutes_behind() {
    let ca = Ca::new();
    let (accepted, message) = publish_secret(&ca, &ca.bundle_of_age(-4 * 60));
    assert!(accepted, "{message}");
}

#[test]
fn explains_a_clock_an_hour_behind() {
    let ca = Ca::new();
    let (accepted, message) = publish_secret(&ca, &ca.bundle_of_age(-HOUR));
    assert!(!accepted);
    assert!(message.contains("valid from ") && message.contains("This node's clock says "), "{message}");
    assert!(message.contains("correct it if it is wrong"), "{message}");
}

#[test]
fn explains_a_clock_an_hour_ahead() {
    let ca = Ca::new();
    let (accepted, message) = publish_secret(&ca, &ca.bundle_of_age_and_lifetime(HOUR, 1800));
    assert!(!accepted);
    assert!(message.contains("expired at ") && message.contains("This node's clock says "), "{message}");
}

#[test]
fn tolerates_a_clock_an_hour_ahead_for_a_longer_lifetime() {
    let ca = Ca::new();
    let (accepted, message) = publish_secret(&ca, &ca.bundle_of_age(HOUR));
    assert!(accepted, "{message}");
}

#[test]
fn explains_an_expired_or_future_server_certificate() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    for (age, since) in [(-HOUR, "it is valid from 20"), (25 * HOUR, "it expired at 20")] {
        let given = bundle.clone();
        let api = Api::start_showing(&ca.server_bundle_of_age(age), &TLS13, move |_, _| ok(&given));
        let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
        let _process = pod.start(&["once"]);
        pod.wait_for_termination_message("Correct the clock of this pod's node");
        let message = pod.termination_message();
        assert!(message.contains(since), "{message}");
        assert_eq!(pod.published(), None);
    }
}

#[test]
fn explains_a_future_bundle_of_the_api() {
    let ca = Ca::new();
    let given = ca.bundle_of_age(-HOUR);
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let _process = pod.start(&["once"]);
    pod.wait_for_termination_message("the issuance API's answer was not used");
    let message = pod.termination_message();
    assert!(message.contains("This node's clock says "), "{message}");
}
