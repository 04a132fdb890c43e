//! The postStart hook beside its main process.

use crate::fixtures::api::{Api, refusal};
use crate::fixtures::{Ca, Pod};
use certmint_contract::{ErrorCode, pod_layout};
use std::time::{Duration, Instant};

#[test]
fn it_returns_once_this_run_has_published() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let mut wait = pod.start(&["wait"]);
    let sidecar = pod.start(&[]);
    sidecar.until_logged("cannot be reached");
    assert!(wait.is_running(), "nothing is published yet: {}", wait.log());
    pod.write_secret(&ca.bundle());
    let (status, log) = wait.end();
    assert!(status.success(), "{log}");
    assert!(pod.published().is_some());
    assert!(pod.start(&["wait"]).end().0.success(), "a second hook of the same run returns at once");
}

#[test]
fn what_an_earlier_run_left_does_not_count() {
    let ca = Ca::new();
    let pod = Pod::new(&ca).with(pod_layout::ENV_DEADLINE, "1");
    pod.write_secret(&ca.bundle());
    let sidecar = pod.start(&[]);
    assert!(pod.start(&["wait"]).end().0.success());
    drop(sidecar);
    let (status, log) = pod.start(&["wait"]).end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("DeadlineExceeded") && log.contains("has not started"), "{log}");
}

#[test]
fn a_restarted_container_is_ready_by_files_that_are_still_good_and_only_by_those() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    pod.published_before(&ca.bundle());
    let _sidecar = pod.start(&[]);
    assert!(pod.start(&["wait"]).end().0.success());

    let pod = Pod::new(&ca).with(pod_layout::ENV_DEADLINE, "1");
    pod.published_before(&ca.expired_bundle());
    let _sidecar = pod.start(&[]);
    assert_eq!(pod.start(&["wait"]).end().0.code(), Some(1));
}

#[test]
fn it_ends_promptly_when_the_main_process_has_given_up() {
    let ca = Ca::new();
    let api =
        Api::start(&ca, |_, _| refusal(410, ErrorCode::PodGone, "the pod is being deleted; nothing to do"));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let wait = pod.start(&["wait"]);
    let sidecar = pod.start(&[]);
    let began = Instant::now();
    let (status, log) = wait.end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("PodGone"), "{log}");
    assert!(began.elapsed() < Duration::from_secs(10), "the deadline of 60 s had no part in it");
    assert_eq!(sidecar.end().0.code(), Some(1));
    assert_eq!(pod.termination_message(), "PodGone: the pod is being deleted; nothing to do");
}

#[test]
fn the_deadline_says_what_was_in_the_way() {
    let ca = Ca::new();
    let api = Api::start(&ca, |_, _| refusal(503, ErrorCode::CaUnavailable, "the CA has expired; rotate it"));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let sidecar = pod.start(&[]);
    sidecar.until_logged("CaUnavailable");
    let (status, log) = pod.with(pod_layout::ENV_DEADLINE, "1").start(&["wait"]).end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("the last cause was: CaUnavailable: the CA has expired; rotate it"), "{log}");
}
