//! The long-running programs of a cluster, started again when they end.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::state::State;

/// How soon an ended program is started again, and a wish to stop one is seen.
const INTERVAL: Duration = Duration::from_millis(100);

/// One program with its arguments; its name is the program's.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// The program, found in PATH.
    pub(super) program: &'static str,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
}

/// The services of one cluster, watched by a thread.
#[derive(Debug)]
pub(super) struct Services {
    state: State,
    started: Sender<Running>,
}

#[derive(Debug)]
struct Running {
    service: Service,
    child: Option<Child>,
}

impl Services {
    /// No service yet.
    #[must_use]
    pub(super) fn new(state: State) -> Self {
        let (started, starting) = mpsc::channel();
        let watched = state.clone();
        thread::spawn(move || {
            let mut services: Vec<Running> = Vec::new();
            loop {
                match starting.recv_timeout(INTERVAL) {
                    Ok(running) => services.push(running),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                for running in &mut services {
                    if let Err(error) = running.look_after(&watched) {
                        println!("{}: {error:#}", running.service.program);
                    }
                }
            }
        });
        Self { state, started }
    }

    /// Starts `service`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(&self, service: Service) -> Result<()> {
        let child = Some(service.spawn(&self.state)?);
        self.started.send(Running { service, child }).context("the services are no longer watched")
    }
}

impl Running {
    fn look_after(&mut self, state: &State) -> Result<()> {
        let stopped = stop_file(state, self.service.program).exists();
        match &mut self.child {
            Some(child) if stopped => {
                child.kill()?;
                child.wait()?;
                self.child = None;
            }
            Some(child) => {
                if let Some(status) = child.try_wait()? {
                    println!("{} ended ({status}) and is started again", self.service.program);
                    self.child = Some(self.service.spawn(state)?);
                }
            }
            None if !stopped => self.child = Some(self.service.spawn(state)?),
            None => {}
        }
        Ok(())
    }
}

impl Service {
    fn spawn(&self, state: &State) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(log_file(state, self.program))?;
        Command::new(self.program)
            .args(&self.arguments)
            .env("TMPDIR", "/run/tmp")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program))
    }
}

/// While this file is there, the service is kept down.
#[must_use]
pub(super) fn stop_file(state: &State, service: &str) -> PathBuf {
    state.path(format!("{service}.stopped"))
}

/// What the service prints.
#[must_use]
pub(super) fn log_file(state: &State, service: &str) -> PathBuf {
    state.path(format!("{service}.log"))
}

/// The end of what each service printed, for a person who looks for the reason of a failure.
#[must_use]
pub(super) fn log_tails(state: &State, lines: usize) -> String {
    let Ok(entries) = fs::read_dir(state.directory()) else {
        return String::new();
    };
    let mut logs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs.iter().fold(String::new(), |text, path| {
        let log =
            fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        let tail = all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n");
        format!("{text}--- {}\n{tail}\n", path.file_name().unwrap_or_default().to_string_lossy())
    })
}
