//! The command `certmint-fetch wait` next to the main process of its container.

use std::time::{Duration, Instant};

use certmint_contract::{ErrorCode, pod_layout};

use crate::fixtures::api::{Api, failure};
use crate::fixtures::{Ca, Pod, wait_until};

#[test]
fn succeeds_when_this_run_has_published() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let mut wait = pod.start(&["wait"]);
    let main = pod.start(&[]);
    main.wait_for_log("cannot be reached");
    assert!(wait.is_running(), "the command ended before the publication: {}", wait.log());
    pod.write_secret(&ca.bundle());
    let (status, log) = wait.wait_for_exit();
    assert!(status.success(), "{log}");
    assert!(pod.published().is_some());
    assert!(
        pod.start(&["wait"]).wait_for_exit().0.success(),
        "a second probe of the same run succeeds at once"
    );
}

#[test]
fn ignores_the_files_of_an_earlier_run() {
    let ca = Ca::new();
    let pod = Pod::new(&ca).with(pod_layout::ENV_DEADLINE, "1");
    pod.write_secret(&ca.bundle());
    let main = pod.start(&[]);
    assert!(pod.start(&["wait"]).wait_for_exit().0.success());
    drop(main);
    let (status, log) = pod.start(&["wait"]).wait_for_exit();
    assert_eq!(status.code(), Some(75));
    assert!(log.starts_with("DeadlineExceeded: no certificate within 1 seconds"), "{log}");
    assert!(log.contains("has not started"), "{log}");
}

#[test]
fn a_restarted_container_is_ready_with_valid_files_only() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    pod.publish_before_start(&ca.bundle());
    let _main = pod.start(&[]);
    assert!(pod.start(&["wait"]).wait_for_exit().0.success());

    let pod = Pod::new(&ca).with(pod_layout::ENV_DEADLINE, "1");
    pod.publish_before_start(&ca.expired_bundle());
    let _main = pod.start(&[]);
    assert_eq!(pod.start(&["wait"]).wait_for_exit().0.code(), Some(75));
}

#[test]
fn fails_at_once_when_the_main_process_has_failed() {
    let ca = Ca::new();
    let api =
        Api::start(&ca, |_, _| failure(410, ErrorCode::PodGone, "the pod is being deleted; nothing to do"));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let wait = pod.start(&["wait"]);
    let main = pod.start(&[]);
    let start = Instant::now();
    let (status, log) = wait.wait_for_exit();
    assert_eq!(status.code(), Some(75));
    assert!(log.starts_with("PodGone: the pod is being deleted"), "{log}");
    assert!(start.elapsed() < Duration::from_secs(10), "the command waited for the deadline");
    assert_eq!(main.wait_for_exit().0.code(), Some(75));
    assert_eq!(pod.termination_message(), "PodGone: the pod is being deleted; nothing to do");
}

#[test]
fn reports_the_last_cause_at_the_deadline() {
    let ca = Ca::new();
    let api = Api::start(&ca, |_, _| failure(503, ErrorCode::CaUnavailable, "the CA has expired; rotate it"));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let main = pod.start(&[]);
    main.wait_for_log("CaUnavailable");
    let pod = pod.with(pod_layout::ENV_DEADLINE, "1");
    let (status, log) = pod.start(&["wait"]).wait_for_exit();
    assert_eq!(status.code(), Some(75));
    assert!(
        pod.termination_message().starts_with("CaUnavailable"),
        "the termination message belongs to the main process"
    );
    assert!(log.contains("the last cause was: CaUnavailable: the CA has expired; rotate it"), "{log}");
}

#[test]
fn the_main_process_retries_after_a_failed_probe() {
    let ca = Ca::new();
    let pod = Pod::new(&ca).with(pod_layout::ENV_DEADLINE, "1");
    let mut main = pod.start(&[]);
    for _ in 0..2 {
        assert_eq!(pod.start(&["wait"]).wait_for_exit().0.code(), Some(75));
    }
    assert!(main.is_running(), "{}", main.log());
    pod.write_secret(&ca.bundle());
    main.wait_for_log("valid until");
    assert!(pod.start(&["wait"]).wait_for_exit().0.success());
}

#[test]
fn the_main_process_ends_when_its_probe_is_killed() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    for _ in 0..2 {
        let mut main = pod.start(&[]);
        main.wait_for_log("cannot be reached");
        let wait = pod.start(&["wait"]);
        wait_until("the marker of the probe", || pod.paths.tls_dir.join(".waiting").exists());
        assert!(main.is_running(), "{}", main.log());
        drop(wait);
        let (status, log) = main.wait_for_exit();
        assert_eq!(status.code(), Some(75), "{log}");
        assert!(pod.termination_message().starts_with("Unavailable: the kubelet restarted"), "{log}");
    }
    // When the files are in place, a killed probe has no effect.
    pod.write_secret(&ca.bundle());
    let mut main = pod.start(&[]);
    assert!(pod.start(&["wait"]).wait_for_exit().0.success());
    drop(pod.start(&["wait"]));
    main.wait_for_log("contains no newer certificate");
    assert!(main.is_running(), "{}", main.log());
}
