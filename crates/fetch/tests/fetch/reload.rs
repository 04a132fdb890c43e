//! How the app is told, by real hooks and real signals.

use crate::fixtures::hook::Hook;
use crate::fixtures::{Ca, Pod, Process, until};
use certmint_contract::pod_layout;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Command;

/// A sidecar with a first certificate in place, and that hook.
fn sidecar(ca: &Ca, hook: &str) -> (Pod, Process) {
    let pod = Pod::new(ca).with(pod_layout::ENV_RELOAD, hook);
    pod.write_secret(&ca.bundle_of_age(600));
    let process = pod.start(&[]);
    process.until_logged("valid until");
    (pod, process)
}

#[test]
fn each_renewal_is_one_post_and_the_first_certificate_none() {
    for hook in [Hook::http(|_| 200), Hook::https(|_| 204)] {
        let ca = Ca::new();
        let (pod, process) = sidecar(&ca, &hook.url);
        for renewal in 1..=2 {
            pod.write_secret(&ca.bundle_of_age(300 / renewal));
            let told = usize::try_from(renewal).unwrap();
            process.until("the app told", || process.log().matches("the app was told").count() == told);
            assert_eq!(hook.calls().len(), told);
        }
        let head = hook.calls()[0].to_lowercase();
        assert!(head.starts_with("post /reload http/1.1\r\n"), "{head}");
        assert!(!head.contains("authorization"), "{head}");
    }
}

#[test]
fn a_failing_hook_is_tried_again_and_the_certificate_stays() {
    let ca = Ca::new();
    let hook = Hook::http(|call| if call == 0 { 500 } else { 200 });
    let (pod, process) = sidecar(&ca, &hook.url);
    let renewed = ca.bundle();
    pod.write_secret(&renewed);
    process.until_logged("answered 500");
    assert!(process.log().contains("ReloadFailed"), "{}", process.log());
    process.until_logged("the app was told");
    assert_eq!(hook.calls().len(), 2);
    assert_eq!(pod.published(), Some(renewed));
    process.until("the clean slate", || pod.termination_message().is_empty());
}

#[test]
fn a_hook_that_a_crash_prevented_is_run_by_the_next_start() {
    let ca = Ca::new();
    let hook = Hook::http(|_| 200);
    let pod = Pod::new(&ca).with(pod_layout::ENV_RELOAD, &hook.url);
    pod.published_before(&ca.bundle_of_age(600));
    pod.write_secret(&ca.bundle());
    assert!(pod.start(&["once"]).end().0.success(), "published, and ended before the hook");
    for _ in 0..2 {
        let process = pod.start(&[]);
        process.until_logged("valid until");
        until("the hook", || hook.calls().len() == 1 && !pod.paths.tls_dir.join(".reload-due").exists());
    }
}

#[test]
fn a_signal_reaches_the_server_and_not_its_workers() {
    let dir = tempfile::tempdir().unwrap();
    // This process's id makes the name no other's.
    let name = format!("cm{}", std::process::id());
    let program = dir.path().join(&name);
    fs::copy("/bin/sh", &program).unwrap();
    // Each says by a file which signals it got; the shell runs traps in the order of the signals' numbers.
    fs::write(
        dir.path().join("app"),
        format!(
            "trap ': > $1.hup' HUP; trap ': > $1.usr1' USR1; echo $$ > $1.pid\n\
             if [ $1 = server ]; then ./{name} ./app worker & fi\n\
             while :; do sleep 0.02; done\n"
        ),
    )
    .unwrap();
    let mut server = Command::new(&program).args(["./app", "server"]).current_dir(&dir).spawn().unwrap();
    let worker = || fs::read_to_string(dir.path().join("worker.pid")).ok()?.trim().parse().ok();
    until("the worker", || worker().is_some());
    let worker = worker().and_then(Pid::from_raw).unwrap();

    let ca = Ca::new();
    let (pod, process) = sidecar(&ca, &format!("signal:SIGHUP:{name}"));
    pod.write_secret(&ca.bundle());
    process.until_logged("the app was told by signal:SIGHUP");
    until("the server's signal", || dir.path().join("server.hup").exists());
    kill_process(worker, Signal::USR1).unwrap();
    until("the worker's own signal", || dir.path().join("worker.usr1").exists());
    assert!(!dir.path().join("worker.hup").exists(), "the worker was signalled");
    kill_process(worker, Signal::KILL).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a_signal_that_cannot_be_sent_says_what_the_pod_lacks() {
    let ca = Ca::new();
    let (pod, process) = sidecar(&ca, "signal:SIGHUP:no-such-app");
    let renewed = ca.bundle();
    pod.write_secret(&renewed);
    process.until_logged("shareProcessNamespace: true");
    assert_eq!(pod.published(), Some(renewed));
}
