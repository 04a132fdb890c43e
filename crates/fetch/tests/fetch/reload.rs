//! How the app is told, by real hooks and real signals.

use crate::fixtures::hook::Hook;
use crate::fixtures::{Ca, Pod, Process, until};
use certmint_contract::pod_layout;
use certmint_fetch::reload_mark;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, Command, Stdio};

/// A sidecar with a first certificate in place, and that hook.
fn sidecar(ca: &Ca, hook: &str) -> (Pod, Process) {
    let pod = Pod::new(ca).with(pod_layout::ENV_RELOAD, hook);
    pod.write_secret(&ca.bundle_of_age(600));
    let process = pod.start(&[]);
    process.until_logged("valid until");
    (pod, process)
}

fn is_due(pod: &Pod) -> bool {
    reload_mark::is_set(&pod.paths.tls_dir)
}

#[test]
fn each_renewal_is_one_post_and_the_first_certificate_none() {
    for hook in [Hook::http(|_| 200), Hook::https(|_| 204), Hook::http_on_ipv6(|_| 200)] {
        let ca = Ca::new();
        let (pod, process) = sidecar(&ca, &hook.url);
        assert!(!is_due(&pod) && hook.calls().is_empty(), "there is no app yet");
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
        until("the hook", || hook.calls().len() == 1 && !is_due(&pod));
    }
}

/// A server and its worker, of one name that is no other's; each says by a file which signals it got.
struct App {
    dir: tempfile::TempDir,
    name: String,
    server: Child,
}

impl App {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("cm{}", std::process::id());
        fs::copy("/bin/sh", dir.path().join(&name)).unwrap();
        // A shell that waits runs a trap at once, and in the order of the signals' numbers when several wait. The
        // worker ends with its server.
        let script = format!(
            "trap ': > $1.hup' HUP; trap ': > $1.usr1' USR1; echo $$ > $1.pid\n\
             if [ $1 = server ]; then ./{name} ./app worker $$ & fi\n\
             while [ $1 = server ] || kill -0 $2; do sleep 1 & wait $!; done\n"
        );
        fs::write(dir.path().join("app"), script).unwrap();
        // A shell cannot trap a signal that was ignored when it started, as nohup has SIGHUP ignored.
        let mut server = Command::new("env");
        server.arg("--default-signal=HUP").arg(dir.path().join(&name));
        server.args(["./app", "server"]).current_dir(&dir).stderr(Stdio::null());
        let server = server.spawn().unwrap();
        Self { dir, name, server }
    }

    fn got(&self, file: &str) -> bool {
        self.dir.path().join(file).exists()
    }

    fn worker(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.dir.path().join("worker.pid")).ok()?;
        Pid::from_raw(pid.trim().parse().ok()?)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_signal_reaches_the_server_and_not_its_workers() {
    let (ca, app) = (Ca::new(), App::start());
    until("the worker", || app.worker().is_some());
    let (pod, process) = sidecar(&ca, &format!("signal:SIGHUP:{}", app.name));
    pod.write_secret(&ca.bundle());
    process.until_logged("the app was told by signal:SIGHUP");
    until("the server's signal", || app.got("server.hup"));
    kill_process(app.worker().unwrap(), Signal::USR1).unwrap();
    until("the worker's own signal", || app.got("worker.usr1"));
    assert!(!app.got("worker.hup"), "the worker was signalled");
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
