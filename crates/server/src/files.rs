//! Files that change under a running server: read again, compared, and taken only when they are good.
//!
//! Kubelet updates a mounted Secret or ConfigMap by swapping a symlink, which file-change notification
//! misses or reports halfway; a few bytes read every few seconds miss nothing.

mod policy;

pub use policy::{PolicyFile, PolicyFileError};

use crate::Identity;
use certmint_contract::ErrorCode;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often mounted files are looked at; kubelet itself needs up to a minute to bring a change.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// The files of a mounted `kubernetes.io/tls` Secret.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    /// The mount, with `tls.crt` and `tls.key`.
    pub dir: PathBuf,
}

impl IdentityFiles {
    /// Loads the files into `identity` now and whenever they change, until `shutdown`.
    /// What cannot be used is logged, and the last good pair stays.
    pub async fn follow(self, identity: Arc<Identity>, every: Duration, shutdown: CancellationToken) {
        let files = [self.dir.join("tls.crt"), self.dir.join("tls.key")];
        follow(files, every, shutdown, |[certificate, key]| {
            match identity.replace(&certificate, &key) {
                Ok(()) => tracing::info!(dir = %self.dir.display(), "serving certificate loaded"),
                Err(error) => {
                    let code = ErrorCode::NoServingCertificate;
                    tracing::error!(%code, dir = %self.dir.display(), %error, "serving certificate not taken, the last good one stays; delete the Secret mounted there to have it made again");
                }
            }
        })
        .await;
    }
}

/// Hands the contents of `files` to `changed` now and whenever any of them changed, until `shutdown`.
/// While one cannot be read, that is logged once and nothing is handed over.
pub async fn follow<const N: usize>(
    files: [PathBuf; N],
    every: Duration,
    shutdown: CancellationToken,
    mut changed: impl FnMut([Vec<u8>; N]),
) {
    let mut seen = None;
    let mut ticks = tokio::time::interval(every);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        match read(&files).await {
            Ok(contents) => {
                let digest = Some(digest(&contents));
                if seen != digest {
                    seen = digest;
                    changed(contents);
                }
            }
            Err((path, error)) if seen.is_some() => {
                seen = None;
                let code = ErrorCode::InvalidSettings;
                tracing::error!(%code, file = %path.display(), %error, "file cannot be read; what was read before stays; check what is mounted there");
            }
            Err((path, error)) => tracing::debug!(file = %path.display(), %error, "file cannot be read yet"),
        }
    }
}

async fn read<const N: usize>(files: &[PathBuf; N]) -> Result<[Vec<u8>; N], (&Path, std::io::Error)> {
    let mut contents = [const { Vec::new() }; N];
    for (path, content) in files.iter().zip(&mut contents) {
        *content = tokio::fs::read(path).await.map_err(|error| (path.as_path(), error))?;
    }
    Ok(contents)
}

/// Tells a change, not a forgery: whoever can write the files needs no collision.
fn digest(contents: &[Vec<u8>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for content in contents {
        hasher.write_usize(content.len());
        hasher.write(content);
    }
    hasher.finish()
}
