//! Follows the policy file, and keeps the last valid policy for servers that start while the file is invalid.

use std::sync::Arc;
use std::time::Duration;

use certmint_contract::Policy;
use certmint_server::PolicyFile;
use kube::Client;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::ApiError;
use crate::config_maps::ConfigMaps;

/// Sends each valid policy of the file to `policy`, until shutdown. Calls `report` now and after each change of the
/// file: with `Ok`, or with a message that the policy is invalid.
pub(crate) async fn follow(
    file: PolicyFile,
    policy: watch::Sender<Arc<Policy>>,
    report: impl Fn(Result<(), &str>),
    shutdown: CancellationToken,
) {
    file.follow(shutdown, |read| match read {
        Ok(read) => {
            report(Ok(()));
            let changed = policy.send_if_modified(|current| {
                let changed = **current != read;
                if changed {
                    *current = Arc::new(read);
                }
                changed
            });
            if changed {
                tracing::info!("the policy changed; planning all workloads again");
            }
        }
        Err(error) => report(Err(&format!(
            "the new policy is not valid, so the last valid one stays in force: {error}"
        ))),
    })
    .await;
}

/// Interval at which the ConfigMap is read, so that a change by another program is undone.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Key in the ConfigMap. Webhook and controller mount the ConfigMap, so it is also the name of a file.
const POLICY_KEY: &str = "policy.json";

/// Writes the policy that is in force to a ConfigMap. The chart creates the ConfigMap empty, and webhook and controller
/// mount it.
pub(crate) struct LastValidPolicy {
    config_maps: ConfigMaps,
    name: String,
    policy: watch::Receiver<Arc<Policy>>,
}

impl LastValidPolicy {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        name: &str,
        policy: watch::Receiver<Arc<Policy>>,
    ) -> Self {
        let config_maps = ConfigMaps::new(client, namespace);
        Self { config_maps, name: name.into(), policy }
    }

    /// Writes the policy to the ConfigMap whenever the two differ. Runs on the leader, and never returns.
    pub(crate) async fn keep(&self) {
        let mut policy = self.policy.clone();
        loop {
            let wanted = policy.borrow_and_update().clone();
            if let Err(error) = self.update(&wanted).await {
                tracing::warn!(code = %error.code(), %error, "could not write the last valid policy to its ConfigMap; the controller retries");
            }
            tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
                Ok(()) = policy.changed() => {}
            }
        }
    }

    async fn update(&self, wanted: &Policy) -> Result<(), ApiError> {
        let found = self.config_maps.get(&self.name).await?;
        // A policy consists of names, numbers and texts, which can always be encoded.
        let wanted = serde_json::to_string_pretty(wanted).unwrap_or_default();
        if found.data.as_ref().and_then(|data| data.get(POLICY_KEY)) == Some(&wanted) {
            return Ok(());
        }
        self.config_maps.patch(&self.name, json!({ "data": { (POLICY_KEY): wanted } })).await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;

    use certmint_server::files;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_invalid_policy_is_reported_and_not_put_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.json");
        fs::write(&path, r#"{"shortestDuration":"1h"}"#).unwrap();
        let file = PolicyFile { path: path.clone(), last_valid: None };
        let first = Policy::from_json(&fs::read(&path).unwrap()).unwrap();
        let (sender, mut policy) = watch::channel(Arc::new(first.clone()));
        let reports = RefCell::new(Vec::new());
        let report = |result: Result<(), &str>| reports.borrow_mut().push(result.map_err(str::to_owned));
        let shutdown = CancellationToken::new();
        let following = follow(file, sender, report, shutdown.clone());
        let test = async {
            fs::write(&path, r#"{"keyAlgorithms":[]}"#).unwrap();
            tokio::time::sleep(files::POLL_INTERVAL * 2).await;
            assert_eq!(**policy.borrow(), first);
            fs::write(&path, r#"{"shortestDuration":"2h"}"#).unwrap();
            policy.changed().await.unwrap();
            assert_eq!(policy.borrow().shortest_duration, "2h".parse().unwrap());
            shutdown.cancel();
        };
        tokio::join!(following, test);
        let reports = reports.into_inner();
        let message = "the new policy is not valid, so the last valid one stays in force: the policy allows no key algorithm: list at least one under keyAlgorithms";
        assert!(reports.contains(&Err(message.to_owned())), "{reports:?}");
        assert_eq!(reports.last(), Some(&Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn the_policy_in_force_is_written_to_the_config_map() {
        const CONFIG_MAP: &str = "/api/v1/namespaces/certmint-system/configmaps/certmint-last-valid-policy";
        let (client, mut server) = crate::testing::api_server();
        let (sender, policy) = watch::channel(Arc::new(Policy::default()));
        let last_valid =
            LastValidPolicy::new(client, "certmint-system", "certmint-last-valid-policy", policy);
        tokio::spawn(async move { last_valid.keep().await });
        // The chart creates the ConfigMap empty.
        server.expect("GET", CONFIG_MAP).await.ok(json!({ "metadata": {} }));
        let call = server.expect("PATCH", CONFIG_MAP).await;
        let text = call.body["data"][POLICY_KEY].as_str().unwrap().to_owned();
        assert_eq!(Policy::from_json(text.as_bytes()).unwrap(), Policy::default());
        let stored = json!({ "metadata": {}, "data": { (POLICY_KEY): text } });
        call.ok(stored.clone());
        server.expect("GET", CONFIG_MAP).await.ok(stored.clone());
        server.expect_no_call().await;
        let changed = Policy { short_names: true, ..Policy::default() };
        sender.send_replace(Arc::new(changed.clone()));
        server.expect("GET", CONFIG_MAP).await.ok(stored);
        let call = server.expect("PATCH", CONFIG_MAP).await;
        let text = call.body["data"][POLICY_KEY].as_str().unwrap();
        assert_eq!(Policy::from_json(text.as_bytes()).unwrap(), changed);
    }
}
