//! The policy, followed in its file.

use certmint_contract::{ErrorCode, Policy, policy::PolicyError};
use certmint_tls_server::files;
use std::{io, path::PathBuf, sync::Arc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why there is no policy to begin with.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file cannot be read.
    #[error(
        "the policy file {path} cannot be read: {why}; check the flag --policy and the mount of the ConfigMap"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// The policy is broken.
    #[error("{path}: {why}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: PolicyError,
    },
}

/// Reads the policy that is in force at the start.
pub(crate) fn read(path: &PathBuf) -> Result<Policy, PolicyFileError> {
    let json = std::fs::read(path).map_err(|why| PolicyFileError::Read { path: path.clone(), why })?;
    Policy::from_json(&json).map_err(|why| PolicyFileError::Broken { path: path.clone(), why })
}

/// Takes a changed policy, unless it is broken, until shutdown.
pub(crate) async fn follow(path: PathBuf, policy: watch::Sender<Arc<Policy>>, shutdown: CancellationToken) {
    files::follow([path], files::INTERVAL, shutdown, |[json]| match Policy::from_json(&json) {
        Ok(read) => {
            let changed = policy.send_if_modified(|current| {
                let changed = **current != read;
                if changed {
                    *current = Arc::new(read);
                }
                changed
            });
            if changed {
                tracing::info!("the policy changed: planning everything again");
            }
        }
        Err(error) => {
            let code = ErrorCode::InvalidPolicy;
            tracing::error!(%code, %error, "policy not taken, the last good one stays in force");
        }
    })
    .await;
}
