//! Reads watched objects as injected pods.

use certmint_contract::ownership::{TEMPLATE_HASH_LABEL, workload_of_pod};
use certmint_contract::{Namespace, WorkloadKind, WorkloadRef, keys};

use super::specs::PodSpec;
use super::{Unreadable, WatchedObject, controlling_owner};
use crate::observe::pod::{InjectedPod, PodFacts, PodOwner};

impl WatchedObject {
    /// Reads the object as an injected pod; `None` for a pod that has finished.
    pub(in crate::observe) fn pod(&self) -> Result<Option<(Namespace, &str, InjectedPod)>, Unreadable> {
        if self.is_finished(WorkloadKind::Pod)? {
            return Ok(None);
        }
        let (namespace, name) = self.namespace_and_name()?;
        self.check_length()?;
        let spec: PodSpec = self.spec()?;
        let service_account = spec.service_account().into();
        let owner = controlling_owner(&self.metadata);
        let labels = self.metadata.labels.clone().unwrap_or_default();
        let annotations = self.metadata.annotations.clone().unwrap_or_default();
        let annotated_workload: Option<WorkloadRef> =
            annotations.get(keys::WORKLOAD).and_then(|text| text.parse().ok());
        let hash = labels.get(TEMPLATE_HASH_LABEL).map(String::as_str);
        let workload = owner.and_then(|owner| {
            workload_of_pod(&owner.api_version, &owner.kind, &owner.name, hash, annotated_workload.as_ref())
        });
        let is_user_annotation =
            |key: &str| key.starts_with(keys::PREFIX) && !keys::KEYS_WRITTEN_BY_WEBHOOK.contains(&key);
        let facts = PodFacts {
            uid: self.uid().into(),
            is_started: self.status()?.has("Initialized"),
            is_deleted: self.metadata.deletion_timestamp.is_some(),
            hostname: spec.hostname.filter(|name| !name.is_empty()).map(Into::into),
            subdomain: spec.subdomain.filter(|name| !name.is_empty()).map(Into::into),
            service_account,
            owner: owner.map(|owner| PodOwner {
                api_version: owner.api_version.as_str().into(),
                kind: owner.kind.as_str().into(),
                name: owner.name.as_str().into(),
                uid: owner.uid.as_str().into(),
            }),
            workload,
            labels,
            annotations: annotations.into_iter().filter(|(key, _)| is_user_annotation(key)).collect(),
        };
        Ok(Some((namespace, name, InjectedPod::new(facts))))
    }
}
