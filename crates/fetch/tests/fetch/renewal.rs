//! Renewal after the first certificate, from the Secret and from the API.

use std::fs;

use certmint_contract::{ErrorCode, pod_layout};

use crate::fixtures::api::{Api, failure, ok};
use crate::fixtures::ca::with_root_of;
use crate::fixtures::{Ca, Pod};

#[test]
fn publishes_a_newer_secret_and_ignores_an_older_one() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    pod.write_secret(&ca.bundle_of_age(120));
    let process = pod.start(&[]);
    // The loop has read the Secret once, so that the renewed bundle is for its second read.
    process.wait_for_log("contains no newer certificate");
    let renewed = ca.bundle_of_age(60);
    pod.write_secret(&renewed);
    process.wait_until("the renewed bundle", || pod.published().as_ref() == Some(&renewed));

    pod.write_secret(&ca.bundle_of_age(90));
    process.wait_until("a read of the older bundle", || {
        process.log().matches("contains no newer certificate").count() == 2
    });
    assert_eq!(pod.published(), Some(renewed));
    let newest = ca.bundle();
    pod.write_secret(&newest);
    process.wait_until("the newest bundle", || pod.published().as_ref() == Some(&newest));
    process.wait_until("a log line for each bundle", || process.log().matches("valid until").count() == 3);
}

#[test]
fn delays_a_changed_lifetime_and_publishes_changed_names_at_once() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let first = ca.bundle_of_age(60);
    pod.write_secret(&first);
    let process = pod.start(&[]);
    process.wait_for_log("contains no newer certificate");
    pod.write_secret(&ca.bundle_of_age_and_lifetime(30, 43_200));
    process.wait_for_log("is put in place within");
    assert_eq!(pod.published(), Some(first), "the delay of this pod is almost a minute");

    let renamed = ca.bundle_with_name("orders.shop.svc");
    pod.write_secret(&renamed);
    process.wait_until("the bundle with another name", || pod.published().as_ref() == Some(&renamed));
}

#[test]
fn publishes_a_due_renewal_after_its_delay() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    // The controller renews after 57 % to 67 % of the lifetime. The delay of this pod is about a second.
    pod.write_secret(&ca.bundle_of_age_and_lifetime(2100, 3600));
    let process = pod.start(&[]);
    process.wait_for_log("contains no newer certificate");
    let renewed = ca.bundle_of_age_and_lifetime(0, 3600);
    pod.write_secret(&renewed);
    process.wait_for_log("is put in place within");
    process.wait_until("the renewed bundle", || pod.published().as_ref() == Some(&renewed));
}

#[test]
fn asks_the_api_after_an_unknown_root_in_the_secret() {
    let (ca, next) = (Ca::new(), Ca::new());
    let first = ca.bundle_of_age(60);
    let rotating = with_root_of(&first, &next);
    let given = rotating.clone();
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    pod.write_secret(&first);
    let process = pod.start(&[]);
    process.wait_for_log("valid until");
    assert!(api.requests().is_empty());
    pod.write_secret(&rotating);
    process.wait_until("the new root", || pod.published().as_ref() == Some(&rotating));
    assert_eq!(api.requests().len(), 1);
}

#[test]
fn asks_the_api_while_the_renewal_is_overdue() {
    let ca = Ca::new();
    // The certificate is older than two thirds of its lifetime, and expires in 15 seconds.
    let first = ca.bundle_of_age_and_lifetime(25, 40);
    let (same, renewed) = (first.clone(), ca.bundle());
    let given = renewed.clone();
    let api = Api::start(&ca, move |_, number| match number {
        0 => ok(&same),
        1 => failure(503, ErrorCode::Unavailable, "the API server could not be asked; ask again"),
        _ => ok(&given),
    });
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    pod.write_secret(&first);
    let process = pod.start(&[]);
    process.wait_until("the renewed bundle", || pod.published().as_ref() == Some(&renewed));
    assert_eq!(api.requests().len(), 3);
    let log = process.log();
    assert!(log.contains("is overdue") && log.contains("could not be asked"), "{log}");
    process.wait_until("an empty termination message", || pod.termination_message().is_empty());
}

#[test]
fn keeps_the_files_if_the_secret_is_damaged_or_deleted() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let bundle = ca.bundle_of_age(60);
    pod.write_secret(&bundle);
    let process = pod.start(&[]);
    process.wait_for_log("valid until");
    let mut broken = ca.bundle();
    broken.certificate = "banana".into();
    pod.write_secret(&broken);
    process.wait_for_log("InvalidBundle");
    fs::remove_file(pod.paths.secret_dir.join("..data")).unwrap();
    process.wait_for_log("the workload's Secret does not exist");
    assert_eq!(pod.published(), Some(bundle));
}

#[test]
fn sigterm_ends_the_process_with_success() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let waiting = pod.start(&[]);
    waiting.wait_for_log("cannot be reached");
    waiting.terminate();
    assert_eq!(waiting.wait_for_exit().0.code(), Some(0));
    pod.write_secret(&ca.bundle());
    let renewing = pod.start(&[]);
    renewing.wait_for_log("valid until");
    renewing.terminate();
    assert_eq!(renewing.wait_for_exit().0.code(), Some(0));
}

#[test]
fn sigterm_ends_the_command_once_with_a_failure() {
    let pod = Pod::new(&Ca::new());
    let waiting = pod.start(&["once"]);
    waiting.wait_for_log("cannot be reached");
    waiting.terminate();
    assert_eq!(waiting.wait_for_exit().0.code(), Some(128 + 15));
}

#[test]
fn a_restart_does_not_publish_older_files() {
    let ca = Ca::new();
    let older = ca.bundle_of_age(90);
    let lagging = ca.bundle();
    let newest = with_root_of(&lagging, &Ca::new());
    let given = newest.clone();
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    // The bundle comes from the API. From then on, the Secret volume lags behind.
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    for (restart, secret) in [&older, &lagging, &older].into_iter().enumerate() {
        pod.write_secret(secret);
        let process = pod.start(&[]);
        process.wait_for_log("valid until");
        assert_eq!(pod.published(), Some(newest.clone()), "restart {restart}");
        assert!(pod.start(&["wait"]).wait_for_exit().0.success());
    }
}
