//! Detects a restart of the kubelet while the pod waits for its certificate.
//!
//! A kubelet that restarts treats a running native sidecar as started, without its startupProbe, and starts the app. (Seen
//! with Kubernetes 1.37: `isContainerStarted` in `pkg/kubelet/prober/prober_manager.go` does not know the probe yet when
//! the kubelet first asks.) If the sidecar has ended, the kubelet restarts it and runs the probe. So the main process ends
//! when it detects the restart. It detects the restart by the probe's command, which the container runtime kills when the
//! kubelet is gone.
//!
//! While the command waits, it holds a lock on a file in the tmpfs volume. The command removes the file when it ends
//! normally. A file without a lock belongs to a command that was killed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the marker file in the tmpfs volume.
const MARKER_FILE: &str = ".waiting";
/// Name of the marker file before it is locked.
const NEXT_MARKER_FILE: &str = ".waiting-next";

/// Marker of the probe's command while it waits. Dropping it removes the file.
#[derive(Debug)]
pub struct WaitMarker {
    path: PathBuf,
    file: File,
}

impl WaitMarker {
    /// Marks in `dir` that this process waits. The new marker replaces the marker of a command that a former kubelet
    /// started and that still waits.
    ///
    /// # Errors
    /// When the volume cannot be written.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let (path, next) = (dir.join(MARKER_FILE), dir.join(NEXT_MARKER_FILE));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.try_lock()?;
        fs::rename(&next, &path)?;
        Ok(Self { path, file })
    }

    /// Returns whether the file in the volume is still the file of this process.
    fn is_current(&self) -> bool {
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| metadata.ino()).ok();
        inode(self.file.metadata()) == inode(fs::metadata(&self.path))
    }
}

impl Drop for WaitMarker {
    fn drop(&mut self) {
        if self.is_current() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the marker of an earlier run of the container.
pub fn clear(dir: &Path) {
    let _ = fs::remove_file(dir.join(MARKER_FILE));
}

/// Returns whether a probe's command was killed while it waited.
#[must_use]
pub fn was_wait_killed(dir: &Path) -> bool {
    // A command that ends normally removes the file. If it does so after this function opened the file, the check of
    // the path fails.
    File::open(dir.join(MARKER_FILE))
        .is_ok_and(|file| file.try_lock_shared().is_ok() && fs::metadata(dir.join(MARKER_FILE)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_killed_command_leaves_its_marker() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!was_wait_killed(dir.path()));
        let first = WaitMarker::create(dir.path()).unwrap();
        assert!(!was_wait_killed(dir.path()));
        let second = WaitMarker::create(dir.path()).unwrap();
        drop(first);
        assert!(dir.path().join(MARKER_FILE).exists(), "the second command still waits");
        assert!(!was_wait_killed(dir.path()));
        drop(second);
        assert!(!was_wait_killed(dir.path()) && !dir.path().join(MARKER_FILE).exists());

        fs::write(dir.path().join(MARKER_FILE), "").unwrap();
        assert!(was_wait_killed(dir.path()));
        clear(dir.path());
        assert!(!was_wait_killed(dir.path()));
    }
}
