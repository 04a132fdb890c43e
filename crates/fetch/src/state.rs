//! The state file, by which the main process reports its progress to `certmint-fetch wait`.
//!
//! The file is in the tmpfs volume, which survives a restart of the container. So a reader must know whether the process
//! that wrote the file still runs. That process holds an exclusive lock on the file, and the kernel releases the lock when
//! the process ends. A file without a lock is a leftover. Process ids and times cannot show whether the process runs,
//! because they have another meaning after a restart.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use certmint_contract::issuance::Failure;
use serde::{Deserialize, Serialize};

use crate::volume::PublishError;

/// Name of the state file in the tmpfs volume.
const STATE_FILE: &str = ".state";
/// Name of the next state file before a rename puts it in the place of [`STATE_FILE`].
const NEXT_STATE_FILE: &str = ".state-next";

/// Progress of the main process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// The process tries to get a certificate. Contains the last failure, if an attempt failed.
    Acquiring(Option<Failure>),
    /// The files are in place.
    Published,
    /// The process ends because of this failure.
    Failed(Failure),
}

/// State file that this process writes.
#[derive(Debug)]
pub struct StateFile {
    dir: PathBuf,
    /// Open file, whose lock shows that the process runs.
    locked: Option<File>,
}

impl StateFile {
    /// Creates a state without a file; [`Self::record`] writes the file into `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), locked: None }
    }

    /// Writes `progress`, which [`read_progress`] returns from then on.
    ///
    /// # Errors
    /// When the volume cannot be written. Then the former progress stays.
    pub fn record(&mut self, progress: &Progress) -> Result<(), PublishError> {
        self.replace(progress).map_err(|source| PublishError::new(&self.dir.join(STATE_FILE), source))
    }

    fn replace(&mut self, progress: &Progress) -> io::Result<()> {
        let next = self.dir.join(NEXT_STATE_FILE);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        // The lock comes before the rename, so that a reader never finds the file of a running process without a lock.
        file.try_lock()?;
        file.write_all(&serde_json::to_vec(progress)?)?;
        fs::rename(&next, self.dir.join(STATE_FILE))?;
        self.locked = Some(file);
        Ok(())
    }
}

/// Reads the progress of the main process that runs now. Returns `None` if there is no such process, or if it has
/// written no progress yet.
///
/// # Errors
/// When the state file exists and cannot be read.
pub fn read_progress(dir: &Path) -> io::Result<Option<Progress>> {
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
    fn reads_the_progress_of_a_running_process_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_progress(dir.path()).unwrap(), None);
        let mut state = StateFile::new(dir.path());
        assert_eq!(read_progress(dir.path()).unwrap(), None);
        for progress in [Progress::Acquiring(None), Progress::Published] {
            state.record(&progress).unwrap();
            assert_eq!(read_progress(dir.path()).unwrap(), Some(progress));
        }
        drop(state);
        assert_eq!(
            read_progress(dir.path()).unwrap(),
            None,
            "the file of a process that ended does not count"
        );
    }
}
