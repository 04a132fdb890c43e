//! The policy in its file.

use super::{INTERVAL, follow};
use crate::observability::Observability;
use crate::{BindError, bind};
use certmint_contract::policy::PolicyError;
use certmint_contract::{ErrorCode, Policy};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// The file with the policy, JSON from a mounted ConfigMap.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Where it is.
    pub path: PathBuf,
    /// Where the controller keeps the last policy that was valid, for whoever starts while the file is broken.
    pub last_valid: Option<PathBuf>,
}

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
        why: std::io::Error,
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

impl PolicyFile {
    /// Waits for the policy that is in force at the start: the one in the file or, when that cannot be used, the last
    /// one that was valid. Until there is one, `/readyz` on that address says what is missing. `None` at a shutdown.
    ///
    /// # Errors
    /// When the address is not to be had.
    pub async fn wait_for_first(
        &self,
        health: SocketAddr,
        shutdown: &CancellationToken,
    ) -> Result<Option<Policy>, BindError> {
        let missing = match self.read() {
            Ok(policy) => return Ok(Some(policy)),
            Err(missing) => missing,
        };
        let code = ErrorCode::InvalidPolicy;
        tracing::error!(%code, error = %missing, "there is no policy to begin with, so this program waits for one and is not ready");
        let why = Arc::new(Mutex::new(missing.to_string()));
        let told = Arc::clone(&why);
        let ready = move || Err(told.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let probes = Observability { registry: Arc::new(Registry::default()), ready };
        let over = shutdown.child_token();
        let found = async {
            let found = shutdown.run_until_cancelled(self.wait_for_valid(&why)).await;
            over.cancel();
            found
        };
        let (found, ()) = tokio::join!(found, probes.serve(bind(health)?, over.clone()));
        Ok(found)
    }

    async fn wait_for_valid(&self, why: &Mutex<String>) -> Policy {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match self.read() {
                Ok(policy) => return policy,
                Err(missing) => *why.lock().unwrap_or_else(PoisonError::into_inner) = missing.to_string(),
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
        tracing::error!(%code, %error, "the policy cannot be used, so this program begins with the last one that was valid");
        Ok(last_valid)
    }

    /// Hands the policy to `taken` now and whenever the file changed, until `shutdown`. One that is broken is logged,
    /// and handed over as what is wrong with it.
    pub async fn follow(
        self,
        shutdown: CancellationToken,
        mut taken: impl FnMut(Result<Policy, PolicyError>),
    ) {
        follow([self.path], INTERVAL, shutdown, |[json]| {
            let policy = Policy::from_json(&json);
            if let Err(error) = &policy {
                let code = ErrorCode::InvalidPolicy;
                tracing::error!(%code, %error, "policy not taken, the last good one stays in force");
            }
            taken(policy);
        })
        .await;
    }
}

fn read(path: &Path) -> Result<Policy, PolicyFileError> {
    let json = std::fs::read(path).map_err(|why| PolicyFileError::Read { path: path.into(), why })?;
    Policy::from_json(&json).map_err(|why| PolicyFileError::Broken { path: path.into(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CONTRADICTION: &str = r#"{"longestDuration":"12h"}"#;

    #[test]
    fn a_program_that_starts_with_a_broken_policy_takes_the_last_valid_one() {
        let directory = tempfile::tempdir().unwrap();
        let (path, last_valid) = (directory.path().join("policy.json"), directory.path().join("last.json"));
        let file = PolicyFile { path: path.clone(), last_valid: Some(last_valid.clone()) };
        fs::write(&path, CONTRADICTION).unwrap();
        assert!(matches!(file.read(), Err(PolicyFileError::Broken { .. })), "there was none yet");
        fs::write(&last_valid, r#"{"shortestDuration":"1h"}"#).unwrap();
        assert_eq!(file.read().unwrap().shortest_duration, "1h".parse().unwrap());
        // Once it is mended, it counts.
        fs::write(&path, r#"{"shortestDuration":"2h"}"#).unwrap();
        assert_eq!(file.read().unwrap().shortest_duration, "2h".parse().unwrap());
        // The last valid one may have been valid for another release only.
        fs::write(&path, CONTRADICTION).unwrap();
        fs::write(&last_valid, CONTRADICTION).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_policy_a_program_waits_and_says_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.json");
        fs::write(&path, CONTRADICTION).unwrap();
        let file = PolicyFile { path: path.clone(), last_valid: None };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let waiting = {
            let file = file.clone();
            let shutdown = shutdown.clone();
            tokio::spawn(async move { file.wait_for_first(port, &shutdown).await.unwrap() })
        };
        let answer = loop {
            match ask(port, "/readyz").await {
                Ok(answer) => break answer,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("contradicts itself"), "{answer}");
        assert!(ask(port, "/healthz").await.unwrap().starts_with("HTTP/1.1 200"));
        fs::write(&path, r#"{"shortestDuration":"2h"}"#).unwrap();
        let policy = waiting.await.unwrap().expect("nobody shut it down");
        assert_eq!(policy.shortest_duration, "2h".parse().unwrap());
        // The address is free again.
        drop(bind(port).unwrap());
        fs::write(&path, CONTRADICTION).unwrap();
        shutdown.cancel();
        assert_eq!(file.wait_for_first(port, &shutdown).await.unwrap(), None);
    }

    async fn ask(port: SocketAddr, path: &str) -> std::io::Result<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(port).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[test]
    fn at_the_start_a_broken_policy_is_an_error_that_names_the_file() {
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
