//! The startupProbe beside its main process.

use crate::fixtures::api::{Api, refusal};
use crate::fixtures::{Ca, Pod, until};
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
    assert!(pod.start(&["wait"]).end().0.success(), "a second probe of the same run returns at once");
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
    assert_eq!(status.code(), Some(75));
    assert!(log.starts_with("DeadlineExceeded: no certificate within 1 seconds"), "{log}");
    assert!(log.contains("has not started"), "{log}");
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
    assert_eq!(pod.start(&["wait"]).end().0.code(), Some(75));
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
    assert_eq!(status.code(), Some(75));
    assert!(log.starts_with("PodGone: the pod is being deleted"), "{log}");
    assert!(began.elapsed() < Duration::from_secs(10), "the deadline of 60 s had no part in it");
    assert_eq!(sidecar.end().0.code(), Some(75));
    assert_eq!(pod.termination_message(), "PodGone: the pod is being deleted; nothing to do");
}

#[test]
fn the_deadline_says_what_was_in_the_way() {
    let ca = Ca::new();
    let api = Api::start(&ca, |_, _| refusal(503, ErrorCode::CaUnavailable, "the CA has expired; rotate it"));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let sidecar = pod.start(&[]);
    sidecar.until_logged("CaUnavailable");
    let pod = pod.with(pod_layout::ENV_DEADLINE, "1");
    let (status, log) = pod.start(&["wait"]).end();
    assert_eq!(status.code(), Some(75));
    assert!(pod.termination_message().starts_with("CaUnavailable"), "that of the main process stays");
    assert!(log.contains("the last cause was: CaUnavailable: the CA has expired; rotate it"), "{log}");
}

#[test]
fn a_sidecar_goes_on_waiting_when_its_probe_has_failed() {
    let ca = Ca::new();
    let pod = Pod::new(&ca).with(pod_layout::ENV_DEADLINE, "1");
    let mut sidecar = pod.start(&[]);
    for _ in 0..2 {
        assert_eq!(pod.start(&["wait"]).end().0.code(), Some(75));
    }
    assert!(sidecar.is_running(), "{}", sidecar.log());
    pod.write_secret(&ca.bundle());
    sidecar.until_logged("valid until");
    assert!(pod.start(&["wait"]).end().0.success());
}

#[test]
fn a_sidecar_ends_when_its_probe_is_killed_as_by_a_restart_of_the_kubelet() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    for _ in 0..2 {
        let mut sidecar = pod.start(&[]);
        sidecar.until_logged("cannot be reached");
        let wait = pod.start(&["wait"]);
        until("the probe to wait", || pod.paths.tls_dir.join(".waiting").exists());
        assert!(sidecar.is_running(), "{}", sidecar.log());
        drop(wait);
        let (status, log) = sidecar.end();
        assert_eq!(status.code(), Some(75), "{log}");
        assert!(pod.termination_message().starts_with("Unavailable: the kubelet restarted"), "{log}");
    }
    // With files in place there is nothing to hold back.
    pod.write_secret(&ca.bundle());
    let mut sidecar = pod.start(&[]);
    assert!(pod.start(&["wait"]).end().0.success());
    drop(pod.start(&["wait"]));
    sidecar.until_logged("holds nothing newer");
    assert!(sidecar.is_running(), "{}", sidecar.log());
}
