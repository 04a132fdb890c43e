//! The policy, followed in its file.

use certmint_contract::Policy;
use certmint_tls_server::PolicyFile;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Takes a changed policy, unless it is broken, until shutdown. `told` hears of each whether it was, and why.
pub(crate) async fn follow(
    file: PolicyFile,
    policy: watch::Sender<Arc<Policy>>,
    told: impl Fn(Result<(), &str>),
    shutdown: CancellationToken,
) {
    file.follow(shutdown, |read| match read {
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
        Err(error) => told(Err(&format!("policy not taken, the last good one stays in force: {error}"))),
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use certmint_tls_server::files;
    use std::{cell::RefCell, fs};

    #[tokio::test(start_paused = true)]
    async fn a_broken_policy_is_told_and_the_last_good_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.json");
        fs::write(&path, r#"{"shortestDuration":"1h"}"#).unwrap();
        let file = PolicyFile { path: path.clone() };
        let first = file.read().unwrap();
        let (sender, mut policy) = watch::channel(Arc::new(first.clone()));
        let heard = RefCell::new(Vec::new());
        let told = |outcome: Result<(), &str>| heard.borrow_mut().push(outcome.map_err(str::to_owned));
        let shutdown = CancellationToken::new();
        let following = follow(file, sender, told, shutdown.clone());
        let test = async {
            fs::write(&path, r#"{"keyAlgorithms":[]}"#).unwrap();
            tokio::time::sleep(files::INTERVAL * 2).await;
            assert_eq!(**policy.borrow(), first);
            fs::write(&path, r#"{"shortestDuration":"2h"}"#).unwrap();
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
}
