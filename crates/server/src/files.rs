//! Mounted files that a running server follows: it reads them again, compares them, and uses only valid ones.
//!
//! The kubelet updates a mounted Secret or ConfigMap by replacing a symlink. File notifications miss that change or
//! report it before it is complete. So the server reads the few small files every [`POLL_INTERVAL`].

mod policy;

pub use policy::{PolicyFile, PolicyFileError};

use std::hash::{DefaultHasher, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certmint_contract::ErrorCode;
use tokio_util::sync::CancellationToken;

use crate::ServingKeyPair;

/// Time between two reads of mounted files. The kubelet itself needs up to a minute to update them.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Files of a mounted Secret of type `kubernetes.io/tls`.
#[derive(Clone, Debug)]
pub struct KeyPairFiles {
    /// The directory with `tls.crt` and `tls.key`.
    pub dir: PathBuf,
}

impl KeyPairFiles {
    /// Loads the files into `key_pair` now and after each change, until `shutdown`. Files that are not valid are
    /// logged, and the last valid pair stays in use.
    pub async fn follow(
        self,
        key_pair: Arc<ServingKeyPair>,
        poll_interval: Duration,
        shutdown: CancellationToken,
    ) {
        let files = ["tls.crt", "tls.key"].map(|name| MountedFile::Required(self.dir.join(name)));
        follow(files, poll_interval, shutdown, |[certificate, key]| {
            match key_pair.replace(&certificate, &key) {
                Ok(()) => tracing::info!(dir = %self.dir.display(), "serving certificate loaded"),
                Err(error) => {
                    let code = ErrorCode::NoServingCertificate;
                    tracing::error!(%code, dir = %self.dir.display(), %error, "the new serving certificate is not valid, the last valid one stays in use; delete the Secret that is mounted there, and the controller recreates it");
                }
            }
        })
        .await;
    }
}

/// Mounted file.
#[derive(Clone, Debug)]
pub enum MountedFile {
    /// A file without which its server cannot work.
    Required(PathBuf),
    /// A file that an earlier version of the writer does not write. A missing file counts as empty.
    Optional(PathBuf),
}

/// Calls `changed` with the contents of `files` now and after each change, until `shutdown`. When a file cannot be
/// read, does not call `changed`, and logs the error: at level ERROR if the previous read succeeded, otherwise at
/// DEBUG.
pub async fn follow<const N: usize>(
    files: [MountedFile; N],
    poll_interval: Duration,
    shutdown: CancellationToken,
    mut changed: impl FnMut([Vec<u8>; N]),
) {
    let mut last_digest = None;
    let mut ticks = tokio::time::interval(poll_interval);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        match read(&files).await {
            Ok(contents) => {
                let digest = Some(digest(&contents));
                if last_digest != digest {
                    last_digest = digest;
                    changed(contents);
                }
            }
            Err((path, error)) if last_digest.is_some() => {
                last_digest = None;
                let code = ErrorCode::InvalidSettings;
                tracing::error!(%code, file = %path.display(), %error, "a mounted file cannot be read, its last content stays in use; check what is mounted there");
            }
            Err((path, error)) => tracing::debug!(file = %path.display(), %error, "file cannot be read yet"),
        }
    }
}

async fn read<const N: usize>(files: &[MountedFile; N]) -> Result<[Vec<u8>; N], (&Path, std::io::Error)> {
    let mut contents = [const { Vec::new() }; N];
    for (file, content) in files.iter().zip(&mut contents) {
        let (MountedFile::Required(path) | MountedFile::Optional(path)) = file;
        match (file, tokio::fs::read(path).await) {
            (_, Ok(read)) => *content = read,
            (MountedFile::Optional(_), Err(error)) if error.kind() == ErrorKind::NotFound => {}
            (_, Err(error)) => return Err((path, error)),
        }
    }
    Ok(contents)
}

/// Returns a digest that detects changes. It need not be cryptographic: an attacker who can write the files can replace
/// their content anyway.
fn digest(contents: &[Vec<u8>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for content in contents {
        hasher.write_usize(content.len());
        hasher.write(content);
    }
    hasher.finish()
}
