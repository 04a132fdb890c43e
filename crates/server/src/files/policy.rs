//! Policy file of the webhook and the controller, and the policy that a server starts with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use certmint_contract::policy::PolicyError;
use certmint_contract::{ErrorCode, Policy};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{MountedFile, POLL_INTERVAL, follow};
use crate::observability::Observability;
use crate::{BindError, bind};

/// File with the policy as JSON, from a mounted ConfigMap.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Path of the last valid policy, which the controller keeps for servers that start while the file is not valid.
    pub last_valid: Option<PathBuf>,
}

/// Error for a policy file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file cannot be read.
    #[error(
        "the policy file {path} cannot be read: {why}; check the flag --policy and the mount of the ConfigMap"
    )]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        why: std::io::Error,
    },
    /// The content is not a valid policy.
    #[error("{path}: {why}")]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// Error in the policy.
        why: PolicyError,
    },
}

impl PolicyFile {
    /// Waits for the policy that a server starts with: the policy in the file or, if that is not valid, the last valid
    /// policy. While there is neither, `/readyz` on the address `health` reports the error. Returns `None` at a
    /// shutdown.
    ///
    /// # Errors
    /// The server cannot listen on `health`.
    pub async fn wait_for_first(
        &self,
        health: SocketAddr,
        shutdown: &CancellationToken,
    ) -> Result<Option<Policy>, BindError> {
        let error = match self.read() {
            Ok(policy) => return Ok(Some(policy)),
            Err(error) => error,
        };
        let code = ErrorCode::InvalidPolicy;
        tracing::error!(%code, %error, "there is no valid policy, so this program waits for one and is not ready");
        let last_error = Arc::new(Mutex::new(error.to_string()));
        let reported = Arc::clone(&last_error);
        let ready = move || Err(reported.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let probes = Observability { registry: Arc::new(Registry::default()), ready };
        let stop_probes = shutdown.child_token();
        let policy = async {
            let policy = shutdown.run_until_cancelled(self.wait_for_valid(&last_error)).await;
            stop_probes.cancel();
            policy
        };
        let (policy, ()) = tokio::join!(policy, probes.serve(bind(health)?, stop_probes.clone()));
        Ok(policy)
    }

    async fn wait_for_valid(&self, last_error: &Mutex<String>) -> Policy {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            match self.read() {
                Ok(policy) => return policy,
                Err(error) => {
                    *last_error.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                }
            }
        }
    }

    fn read(&self) -> Result<Policy, PolicyFileError> {
        let error = match read(&self.path) {
            Ok(policy) => return Ok(policy),
            Err(error) => error,
        };
        let Some(Ok(last_valid)) = self.last_valid.as_deref().map(read) else { return Err(error) };
        let code = ErrorCode::InvalidPolicy;
        tracing::error!(%code, %error, "the policy is not valid, so this program starts with the last valid one");
        Ok(last_valid)
    }

    /// Calls `changed` with the policy now and after each change of the file, until `shutdown`. A policy that is not
    /// valid is logged, and `changed` gets its error.
    pub async fn follow(
        self,
        shutdown: CancellationToken,
        mut changed: impl FnMut(Result<Policy, PolicyError>),
    ) {
        follow([MountedFile::Required(self.path)], POLL_INTERVAL, shutdown, |[json]| {
            let policy = Policy::from_json(&json);
            if let Err(error) = &policy {
                let code = ErrorCode::InvalidPolicy;
                tracing::error!(%code, %error, "the new policy is not valid, so the last valid one stays in force");
            }
            changed(policy);
        })
        .await;
    }
}

fn read(path: &Path) -> Result<Policy, PolicyFileError> {
    let json = std::fs::read(path).map_err(|why| PolicyFileError::Read { path: path.into(), why })?;
    Policy::from_json(&json).map_err(|why| PolicyFileError::Invalid { path: path.into(), why })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// A policy whose longest duration is shorter than its default.
    const INVALID: &str = r#"{"longestDuration":"12h"}"#;

    #[test]
    fn a_server_with_an_invalid_policy_starts_with_the_last_valid_one() {
        let directory = tempfile::tempdir().unwrap();
        let (path, last_valid) = (directory.path().join("policy.json"), directory.path().join("last.json"));
        let file = PolicyFile { path: path.clone(), last_valid: Some(last_valid.clone()) };
        fs::write(&path, INVALID).unwrap();
        assert!(matches!(file.read(), Err(PolicyFileError::Invalid { .. })), "there is no valid policy yet");
        fs::write(&last_valid, r#"{"shortestDuration":"1h"}"#).unwrap();
        assert_eq!(file.read().unwrap().shortest_duration, "1h".parse().unwrap());
        // A valid policy in the file has priority.
        fs::write(&path, r#"{"shortestDuration":"2h"}"#).unwrap();
        assert_eq!(file.read().unwrap().shortest_duration, "2h".parse().unwrap());
        // The last valid policy may come from another release, and not be valid for this one.
        fs::write(&path, INVALID).unwrap();
        fs::write(&last_valid, INVALID).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_valid_policy_a_server_waits_and_reports_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.json");
        fs::write(&path, INVALID).unwrap();
        let file = PolicyFile { path: path.clone(), last_valid: None };
        let health = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let waiting = {
            let file = file.clone();
            let shutdown = shutdown.clone();
            tokio::spawn(async move { file.wait_for_first(health, &shutdown).await.unwrap() })
        };
        let response = loop {
            match get(health, "/readyz").await {
                Ok(response) => break response,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert!(
            response.starts_with("HTTP/1.1 503") && response.contains("contradicts itself"),
            "{response}"
        );
        assert!(get(health, "/healthz").await.unwrap().starts_with("HTTP/1.1 200"));
        fs::write(&path, r#"{"shortestDuration":"2h"}"#).unwrap();
        let policy = waiting.await.unwrap().expect("there was no shutdown");
        assert_eq!(policy.shortest_duration, "2h".parse().unwrap());
        // The address is free again.
        drop(bind(health).unwrap());
        fs::write(&path, INVALID).unwrap();
        shutdown.cancel();
        assert_eq!(file.wait_for_first(health, &shutdown).await.unwrap(), None);
    }

    async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok(response)
    }

    #[test]
    fn the_error_of_an_invalid_policy_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = PolicyFile { path: directory.path().join("policy.json"), last_valid: None };
        assert!(matches!(file.read(), Err(PolicyFileError::Read { .. })));
        fs::write(&file.path, r#"{"clusterDomian":"a"}"#).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}: the policy cannot be read: unknown field", file.path.display())),
            "{error}"
        );
    }
}
