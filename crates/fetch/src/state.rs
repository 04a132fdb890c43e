//! How the main process tells `certmint-fetch wait` where it stands.
//!
//! A file in the tmpfs volume, which outlives the container, so it must show whose run it speaks of: the
//! main process holds an exclusive lock on it for as long as it lives, and the kernel lets go when it dies.
//! A file that nobody locks is a leftover. That needs neither pids, which mean nothing across restarts, nor
//! clocks.

use crate::publication::PublishError;
use certmint_contract::issuance::Failure;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file, beside the certificate's.
const STATE_FILE: &str = ".state";
/// Its next content, before it takes its place.
const STATE_FILE_NEXT: &str = ".state-next";

/// Where a run of the fetcher stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// No certificate yet; the last failure, when there was one.
    Acquiring(Option<Failure>),
    /// The files are in place.
    Published,
    /// This run has given up.
    Failed(Failure),
}

/// The main process's side.
#[derive(Debug)]
pub struct StateFile {
    dir: PathBuf,
    /// Held for its lock only.
    current: Option<File>,
}

impl StateFile {
    /// A state of the run that begins now, in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), current: None }
    }

    /// Makes `progress` what [`observe`] sees from now on.
    ///
    /// # Errors
    /// When the volume cannot be written; the former progress still stands.
    pub fn record(&mut self, progress: &Progress) -> Result<(), PublishError> {
        self.replace(progress).map_err(|source| PublishError::new(&self.dir.join(STATE_FILE), source))
    }

    fn replace(&mut self, progress: &Progress) -> io::Result<()> {
        let next = self.dir.join(STATE_FILE_NEXT);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        // Locked before it is seen: nobody ever finds a live run's file unlocked.
        file.try_lock()?;
        file.write_all(&serde_json::to_vec(progress)?)?;
        fs::rename(&next, self.dir.join(STATE_FILE))?;
        self.current = Some(file);
        Ok(())
    }
}

/// What the run that is alive now has recorded; `None` while there is none.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn observe(dir: &Path) -> io::Result<Option<Progress>> {
    let mut file = match File::open(dir.join(STATE_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => {
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            Ok(Some(serde_json::from_slice(&text)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_run_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(observe(dir.path()).unwrap(), None);
        let mut state = StateFile::new(dir.path());
        assert_eq!(observe(dir.path()).unwrap(), None);
        for progress in [Progress::Acquiring(None), Progress::Published] {
            state.record(&progress).unwrap();
            assert_eq!(observe(dir.path()).unwrap(), Some(progress));
        }
        drop(state);
        assert_eq!(observe(dir.path()).unwrap(), None, "what an earlier run published does not count");
    }
}
