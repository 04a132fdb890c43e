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

/// Takes a changed policy, unless it is broken, until shutdown. `told` hears of each whether it was, and why.
pub(crate) async fn follow(
    path: PathBuf,
    policy: watch::Sender<Arc<Policy>>,
    told: impl Fn(Result<(), &str>),
    shutdown: CancellationToken,
) {
    files::follow([path], files::INTERVAL, shutdown, |[json]| match Policy::from_json(&json) {
        Ok(read) => {
            told(Ok(()));
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
            told(Err(&format!("policy not taken, the last good one stays in force: {error}")));
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, fs};

    #[tokio::test(start_paused = true)]
    async fn a_broken_policy_is_told_and_the_last_good_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.json");
        fs::write(&file, r#"{"shortestDuration":"1h"}"#).unwrap();
        let first = read(&file).unwrap();
        let (sender, mut policy) = watch::channel(Arc::new(first.clone()));
        let heard = RefCell::new(Vec::new());
        let told = |outcome: Result<(), &str>| heard.borrow_mut().push(outcome.map_err(str::to_owned));
        let shutdown = CancellationToken::new();
        let following = follow(file.clone(), sender, told, shutdown.clone());
        let test = async {
            fs::write(&file, r#"{"keyAlgorithms":[]}"#).unwrap();
            tokio::time::sleep(files::INTERVAL * 2).await;
            assert_eq!(**policy.borrow(), first);
            fs::write(&file, r#"{"shortestDuration":"2h"}"#).unwrap();
            policy.changed().await.unwrap();
            assert_eq!(policy.borrow().shortest_duration, "2h".parse().unwrap());
            shutdown.cancel();
        };
        tokio::join!(following, test);
        let heard = heard.into_inner();
        let broken = "policy not taken, the last good one stays in force: the policy allows no key algorithm: list at least one under keyAlgorithms";
        assert!(heard.contains(&Err(broken.to_owned())), "{heard:?}");
        assert_eq!(heard.last(), Some(&Ok(())));
    }

    #[test]
    fn at_the_start_a_broken_policy_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.json");
        assert!(matches!(read(&file), Err(PolicyFileError::Read { .. })));
        fs::write(&file, r#"{"clusterDomian":"a"}"#).unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}: the policy cannot be read: unknown field", file.display())),
            "{error}"
        );
    }
}
