//! The reload hook, with real HTTP servers and real signals.

use std::fs;
use std::process::{Child, Command, Stdio};

use certmint_contract::pod_layout;
use certmint_fetch::reload;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixtures::hook::Hook;
use crate::fixtures::{Ca, Pod, Process, wait_until};

/// Starts a pod with that hook, and waits until its first certificate is in place.
fn start_pod(ca: &Ca, hook: &str) -> (Pod, Process) {
    let pod = Pod::new(ca).with(pod_layout::ENV_RELOAD, hook);
    pod.write_secret(&ca.bundle_of_age(600));
    let process = pod.start(&[]);
    process.wait_for_log("valid until");
    (pod, process)
}

fn is_due(pod: &Pod) -> bool {
    reload::is_due(&pod.paths.tls_dir)
}

#[test]
fn posts_once_for_each_renewal() {
    for hook in [Hook::http(|_| 200), Hook::https(|_| 204), Hook::http_on_ipv6(|_| 200)] {
        let ca = Ca::new();
        let (pod, process) = start_pod(&ca, &hook.url);
        assert!(
            !is_due(&pod) && hook.calls().is_empty(),
            "the app does not run before the first certificate"
        );
        for renewal in 1..=2 {
            pod.write_secret(&ca.bundle_of_age(300 / renewal));
            let count = usize::try_from(renewal).unwrap();
            process.wait_until("the reload", || {
                process.log().matches("the application was notified").count() == count
            });
            assert_eq!(hook.calls().len(), count);
        }
        let head = hook.calls()[0].to_lowercase();
        assert!(head.starts_with("post /reload http/1.1\r\n"), "{head}");
        assert!(!head.contains("authorization"), "{head}");
    }
}

#[test]
fn retries_a_failing_hook_and_keeps_the_certificate() {
    let ca = Ca::new();
    let hook = Hook::http(|call| if call == 0 { 500 } else { 200 });
    let (pod, process) = start_pod(&ca, &hook.url);
    let renewed = ca.bundle();
    pod.write_secret(&renewed);
    process.wait_for_log("answered 500");
    assert!(process.log().contains("ReloadFailed"), "{}", process.log());
    process.wait_for_log("the application was notified");
    assert_eq!(hook.calls().len(), 2);
    assert_eq!(pod.published(), Some(renewed));
    process.wait_until("an empty termination message", || pod.termination_message().is_empty());
}

#[test]
fn runs_the_hook_after_a_crash_at_the_next_start() {
    let ca = Ca::new();
    let hook = Hook::http(|_| 200);
    let pod = Pod::new(&ca).with(pod_layout::ENV_RELOAD, &hook.url);
    pod.publish_before_start(&ca.bundle_of_age(600));
    pod.write_secret(&ca.bundle());
    assert!(
        pod.start(&["once"]).wait_for_exit().0.success(),
        "the process published and ended before the hook"
    );
    for _ in 0..2 {
        let process = pod.start(&[]);
        process.wait_for_log("valid until");
        wait_until("the hook", || hook.calls().len() == 1 && !is_due(&pod));
    }
}

/// A server and its worker process with the same, unique name. Each writes a file for each signal that it gets.
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
        // While a shell is in `wait`, it runs a trap at once, and several traps in the order of the signal numbers. The
        // worker ends when its server has ended.
        let script = format!(
            "trap ': > $1.hup' HUP; trap ': > $1.usr1' USR1; echo $$ > $1.pid\n\
             if [ $1 = server ]; then ./{name} ./app worker $$ & fi\n\
             while [ $1 = server ] || kill -0 $2; do sleep 1 & wait $!; done\n"
        );
        fs::write(dir.path().join("app"), script).unwrap();
        // A shell cannot trap a signal that was ignored at its start. nohup ignores SIGHUP, for instance.
        let mut server = Command::new("env");
        server.arg("--default-signal=HUP").arg(dir.path().join(&name));
        server.args(["./app", "server"]).current_dir(&dir).stderr(Stdio::null());
        let server = server.spawn().unwrap();
        Self { dir, name, server }
    }

    fn has_got(&self, file: &str) -> bool {
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
fn signals_the_server_and_not_its_workers() {
    let (ca, app) = (Ca::new(), App::start());
    wait_until("the worker", || app.worker().is_some());
    let (pod, process) = start_pod(&ca, &format!("signal:SIGHUP:{}", app.name));
    pod.write_secret(&ca.bundle());
    process.wait_for_log("the application was notified by signal:SIGHUP");
    wait_until("the signal of the server", || app.has_got("server.hup"));
    kill_process(app.worker().unwrap(), Signal::USR1).unwrap();
    wait_until("the signal of the worker", || app.has_got("worker.usr1"));
    assert!(!app.has_got("worker.hup"), "the worker was signalled");
}

#[test]
fn explains_a_signal_that_cannot_be_sent() {
    let ca = Ca::new();
    let (pod, process) = start_pod(&ca, "signal:SIGHUP:no-such-app");
    let renewed = ca.bundle();
    pod.write_secret(&renewed);
    process.wait_for_log("shareProcessNamespace: true");
    assert_eq!(pod.published(), Some(renewed));
}
