//! Scales up a Deployment, and measures the time until its pods are ready.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::{Rollout, RolloutTime};
use crate::process;

/// Measures the time from the scale-up until the last pod is ready. Then scales down, and waits until the pods
/// are gone.
pub(super) async fn measure(rollout: &Rollout) -> Result<RolloutTime> {
    let client = Client::try_default().await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &rollout.namespace);
    let pods: Api<Pod> = Api::namespaced(client, &rollout.namespace);
    let selector = format!("app={}", rollout.name);
    let list = pods.list(&ListParams::default().labels(&selector)).await?;
    let since = list.metadata.resource_version.context("a list has a version")?;
    let mut events = pods.watch(&WatchParams::default().labels(&selector), &since).await?.boxed();
    let scale = async |replicas: usize| {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        deployments.patch_scale(&rollout.name, &PatchParams::default(), &patch).await
    };

    let (begun, cpu_before) = (Instant::now(), process::machine_cpu()?);
    scale(rollout.pods).await?;
    let (mut present, mut ready) = (BTreeSet::new(), BTreeSet::new());
    let mut took = None;
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                let name = pod.metadata.name.clone().unwrap_or_default();
                if is_ready(&pod) {
                    ready.insert(name.clone());
                }
                present.insert(name);
            }
            WatchEvent::Deleted(pod) => {
                present.remove(&pod.metadata.name.unwrap_or_default());
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(error) => bail!("the watch of {selector} ended: {error:?}"),
        }
        if took.is_none() && ready.len() == rollout.pods {
            let (seconds, cpu_seconds) =
                (begun.elapsed().as_secs_f64(), process::machine_cpu()? - cpu_before);
            took = Some(RolloutTime { seconds, cpu_seconds });
            scale(0).await?;
        }
        if let Some(took) = took.filter(|_| present.is_empty()) {
            return Ok(took);
        }
    }
    bail!("the watch of {selector} ended")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
