//! The policy in its file.

use super::{INTERVAL, follow};
use certmint_contract::policy::PolicyError;
use certmint_contract::{ErrorCode, Policy};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// The file with the policy, JSON from a mounted ConfigMap.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Where it is.
    pub path: PathBuf,
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
    /// Reads the policy that is in force at the start.
    ///
    /// # Errors
    /// When the file cannot be read or the policy is broken.
    pub fn read(&self) -> Result<Policy, PolicyFileError> {
        let path = || self.path.clone();
        let json = std::fs::read(&self.path).map_err(|why| PolicyFileError::Read { path: path(), why })?;
        Policy::from_json(&json).map_err(|why| PolicyFileError::Broken { path: path(), why })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn at_the_start_a_broken_policy_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = PolicyFile { path: directory.path().join("policy.json") };
        assert!(matches!(file.read(), Err(PolicyFileError::Read { .. })));
        fs::write(&file.path, r#"{"clusterDomian":"a"}"#).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}: the policy cannot be read: unknown field", file.path.display())),
            "{error}"
        );
    }
}
