//! How the main process notices that the kubelet has restarted while there is no certificate.
//!
//! A kubelet that restarts takes a sidecar that it finds running for started, without asking its startupProbe, and starts the
//! app (seen with Kubernetes 1.37: `isContainerStarted` in `pkg/kubelet/prober/prober_manager.go` knows of no probe yet
//! when it is asked first). A sidecar that has ended it starts again, and then it asks the probe. So the main process ends.
//! It learns of the restart because the container runtime kills the command of a probe whose kubelet is gone.
//!
//! A file in the tmpfs volume says that a probe's command waits. The command holds a lock on it and removes it when it ends
//! in good order. A file that nobody locks is one whose command was killed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file, beside the certificate's.
const FILE: &str = ".waiting";
/// The same before its lock is held.
const FILE_NEXT: &str = ".waiting-next";

/// The probe's command, while it waits.
#[derive(Debug)]
pub struct Waiting {
    path: PathBuf,
    file: File,
}

impl Waiting {
    /// Says in `dir` that this process waits. A command that waits already, for a kubelet of before, is no longer looked at.
    ///
    /// # Errors
    /// When the volume cannot be written.
    pub fn begin(dir: &Path) -> io::Result<Self> {
        let (path, next) = (dir.join(FILE), dir.join(FILE_NEXT));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.try_lock()?;
        fs::rename(&next, &path)?;
        Ok(Self { path, file })
    }

    fn is_looked_at(&self) -> bool {
        let number = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| metadata.ino()).ok();
        number(self.file.metadata()) == number(fs::metadata(&self.path))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_looked_at() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Forgets what waited for an earlier run of the container.
pub fn clear(dir: &Path) {
    let _ = fs::remove_file(dir.join(FILE));
}

/// Whether a probe's command was killed while it waited.
pub fn was_killed(dir: &Path) -> bool {
    // A command that has just ended in good order may have removed the file in between.
    File::open(dir.join(FILE))
        .is_ok_and(|file| file.try_lock_shared().is_ok() && fs::metadata(dir.join(FILE)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_command_that_was_killed_leaves_its_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!was_killed(dir.path()));
        let waiting = Waiting::begin(dir.path()).unwrap();
        assert!(!was_killed(dir.path()));
        let next = Waiting::begin(dir.path()).unwrap();
        drop(waiting);
        assert!(dir.path().join(FILE).exists(), "the next one still waits");
        assert!(!was_killed(dir.path()));
        drop(next);
        assert!(!was_killed(dir.path()) && !dir.path().join(FILE).exists());

        fs::write(dir.path().join(FILE), "").unwrap();
        assert!(was_killed(dir.path()));
        clear(dir.path());
        assert!(!was_killed(dir.path()));
    }
}
