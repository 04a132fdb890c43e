//! The policy, followed in its file; and the last valid one, kept for whoever starts while the file is broken.

use crate::api::{self, ApiError};
use certmint_contract::Policy;
use certmint_server::PolicyFile;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::Patch};
use serde_json::json;
use std::{sync::Arc, time::Duration};
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
        Err(error) => {
            told(Err(&format!("the new policy is not valid, the last valid one stays in force: {error}")))
        }
    })
    .await;
}

/// How soon somebody's change of the ConfigMap is undone.
const PACE: Duration = Duration::from_secs(60);
/// The ConfigMap's key, which is the name of the file that servers have mounted.
const KEY: &str = "policy.json";

/// The policy in force, in a ConfigMap that the chart makes without content and that webhook and controller mount.
pub(crate) struct LastValidPolicy {
    config_maps: Api<ConfigMap>,
    name: String,
    namespace: String,
    policy: watch::Receiver<Arc<Policy>>,
}

impl LastValidPolicy {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        name: &str,
        policy: watch::Receiver<Arc<Policy>>,
    ) -> Self {
        let config_maps = Api::namespaced(client, namespace);
        Self { config_maps, name: name.into(), namespace: namespace.into(), policy }
    }

    /// Writes it whenever it differs, while leading; never returns.
    pub(crate) async fn keep(&self) {
        let mut policy = self.policy.clone();
        loop {
            let wanted = policy.borrow_and_update().clone();
            if let Err(error) = self.look(&wanted).await {
                tracing::warn!(code = %error.code(), %error, "the policy in force was not kept for servers that start while the policy is broken; this is tried again");
            }
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                Ok(()) = policy.changed() => {}
            }
        }
    }

    async fn look(&self, wanted: &Policy) -> Result<(), ApiError> {
        let call = |verb| format!("{verb} ConfigMap {}/{}", self.namespace, self.name);
        let found = api::call(call("get"), self.config_maps.get(&self.name)).await?;
        // A policy is names, numbers and words, which always encode.
        let wanted = serde_json::to_string_pretty(wanted).unwrap_or_default();
        if found.data.as_ref().and_then(|data| data.get(KEY)) == Some(&wanted) {
            return Ok(());
        }
        let (params, patch) = (api::patch_params(), Patch::Merge(json!({ "data": { (KEY): wanted } })));
        api::call(call("patch"), self.config_maps.patch(&self.name, &params, &patch)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use certmint_server::files;
    use std::{cell::RefCell, fs};

    #[tokio::test(start_paused = true)]
    async fn a_broken_policy_is_told_and_the_last_good_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.json");
        fs::write(&path, r#"{"shortestDuration":"1h"}"#).unwrap();
        let file = PolicyFile { path: path.clone(), last_valid: None };
        let first = Policy::from_json(&fs::read(&path).unwrap()).unwrap();
        let (sender, mut policy) = watch::channel(Arc::new(first.clone()));
        let heard = RefCell::new(Vec::new());
        let told = |outcome: Result<(), &str>| heard.borrow_mut().push(outcome.map_err(str::to_owned));
        let shutdown = CancellationToken::new();
        let following = follow(file, sender, told, shutdown.clone());
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
        let heard = heard.into_inner();
        let broken = "the new policy is not valid, the last valid one stays in force: the policy allows no key algorithm: list at least one under keyAlgorithms";
        assert!(heard.contains(&Err(broken.to_owned())), "{heard:?}");
        assert_eq!(heard.last(), Some(&Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn the_policy_in_force_is_kept_for_servers_that_start_while_the_file_is_broken() {
        const CONFIG_MAP: &str = "/api/v1/namespaces/certmint-system/configmaps/certmint-last-valid-policy";
        let (client, mut server) = crate::testing::api_server();
        let (sender, policy) = watch::channel(Arc::new(Policy::default()));
        let kept = LastValidPolicy::new(client, "certmint-system", "certmint-last-valid-policy", policy);
        tokio::spawn(async move { kept.keep().await });
        // As the chart makes it.
        server.expect("GET", CONFIG_MAP).await.ok(json!({ "metadata": {} }));
        let call = server.expect("PATCH", CONFIG_MAP).await;
        let text = call.body["data"][KEY].as_str().unwrap().to_owned();
        assert_eq!(Policy::from_json(text.as_bytes()).unwrap(), Policy::default());
        let stored = json!({ "metadata": {}, "data": { (KEY): text } });
        call.ok(stored.clone());
        server.expect("GET", CONFIG_MAP).await.ok(stored.clone());
        server.expect_silence().await;
        let changed = Policy { short_names: true, ..Policy::default() };
        sender.send_replace(Arc::new(changed.clone()));
        server.expect("GET", CONFIG_MAP).await.ok(stored);
        let call = server.expect("PATCH", CONFIG_MAP).await;
        let text = call.body["data"][KEY].as_str().unwrap();
        assert_eq!(Policy::from_json(text.as_bytes()).unwrap(), changed);
    }
}
