//! Long-running programs of a cluster, which are restarted when they end.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::directory::ClusterDirectory;

/// Interval between two checks of the services. A check restarts services that have ended, and stops or starts services
/// on request.
const INTERVAL: Duration = Duration::from_millis(100);

/// A program with its arguments. The service has the program's name.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// Name of the program, which is found in `PATH`.
    pub(super) program: &'static str,
    /// Arguments of the program.
    pub(super) arguments: Vec<String>,
}

/// The services of one cluster. A thread watches them.
#[derive(Debug)]
pub(super) struct Services {
    directory: ClusterDirectory,
    started: Sender<Running>,
}

#[derive(Debug)]
struct Running {
    service: Service,
    child: Option<Child>,
}

impl Services {
    /// Starts the thread that watches the services. There is no service yet.
    #[must_use]
    pub(super) fn new(directory: ClusterDirectory) -> Self {
        let (started, starting) = mpsc::channel();
        let watched = directory.clone();
        thread::spawn(move || {
            let mut services: Vec<Running> = Vec::new();
            loop {
                match starting.recv_timeout(INTERVAL) {
                    Ok(running) => services.push(running),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                for running in &mut services {
                    if let Err(error) = running.check(&watched) {
                        println!("{}: {error:#}", running.service.program);
                    }
                }
            }
        });
        Self { directory, started }
    }

    /// Starts `service`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(&self, service: Service) -> Result<()> {
        let child = Some(service.spawn(&self.directory)?);
        self.started
            .send(Running { service, child })
            .context("the thread that watches the services has ended")
    }
}

impl Running {
    fn check(&mut self, directory: &ClusterDirectory) -> Result<()> {
        let stopped = stop_file(directory, self.service.program).exists();
        match &mut self.child {
            Some(child) if stopped => {
                child.kill()?;
                child.wait()?;
                self.child = None;
            }
            Some(child) => {
                if let Some(status) = child.try_wait()? {
                    println!("{} ended ({status}) and is restarted", self.service.program);
                    self.child = Some(self.service.spawn(directory)?);
                }
            }
            None if !stopped => self.child = Some(self.service.spawn(directory)?),
            None => {}
        }
        Ok(())
    }
}

impl Service {
    fn spawn(&self, directory: &ClusterDirectory) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(log_file(directory, self.program))?;
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

/// Returns the path of the stop file. While that file exists, the service does not run.
#[must_use]
pub(super) fn stop_file(directory: &ClusterDirectory, service: &str) -> PathBuf {
    directory.path(format!("{service}.stopped"))
}

/// Returns the path of the service's log.
#[must_use]
pub(super) fn log_file(directory: &ClusterDirectory, service: &str) -> PathBuf {
    directory.path(format!("{service}.log"))
}

/// Returns the last lines of each service's log, to explain a failure.
#[must_use]
pub(super) fn log_tails(directory: &ClusterDirectory, lines: usize) -> String {
    let Ok(entries) = fs::read_dir(directory.root()) else {
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
