//! From what a watch delivers to what is kept.

use super::pods::{Full, Pod, PodFacts, PodOwner};
use crate::api::FIELD_MANAGER;
use certmint_contract::{
    Namespace, SecretName, WorkloadKind, WorkloadRef, annotations, keys,
    ownership::{TEMPLATE_HASH, controlling_workload, workload_of_pod},
    pod_layout::{CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE, WORKLOAD_FILE},
};
use certmint_planner::{Owner, Replicas, SecretFacts, Service, ServiceKind, Workload};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{
    Resource,
    api::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta},
    core::DynamicResourceScope,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};
use time::OffsetDateTime;

/// An object as its watch delivers it. The spec stays text until its kind is known, so that an object that
/// cannot be read does not break the list or the watch it came with.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Seen {
    /// Metadata.
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<Box<RawValue>>,
    #[serde(default)]
    status: Option<Box<RawValue>>,
}

/// Why an object is passed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Its name or namespace is none.
    #[error("its name: {0}")]
    Name(String),
    /// Its spec is not of the shape this API version has.
    #[error("its spec: {0}")]
    Spec(#[from] serde_json::Error),
    /// So it is with its status.
    #[error("its status: {0}")]
    Status(#[source] serde_json::Error),
    /// There are too many injected pods.
    #[error(transparent)]
    NoRoom(#[from] Full),
}

/// The annotations that only the certificate itself can confirm.
const RECORDED: [&str; 4] = [keys::SERIAL, keys::ISSUER, keys::NOT_BEFORE, keys::NOT_AFTER];

impl Seen {
    /// An object of which only metadata matters.
    pub(crate) fn from_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, spec: None, status: None }
    }

    /// Namespace and name, if there are both.
    pub(crate) fn namespace_and_name(&self) -> Result<(Namespace, &str), Unreadable> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let namespace = text(&self.metadata.namespace).parse::<Namespace>();
        let namespace = namespace.map_err(|why| Unreadable::Name(why.to_string()))?;
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name.is_empty() { Err(Unreadable::Name("it has none".into())) } else { Ok((namespace, name)) }
    }

    /// The object as a workload; `None` for one that another workload controls, and for one that has finished: nobody
    /// is going to use a certificate of its.
    pub(crate) fn workload(&self, kind: WorkloadKind) -> Result<Option<Workload>, Unreadable> {
        if is_controlled_by_workload(kind, &self.metadata) || self.is_finished(kind)? {
            return Ok(None);
        }
        let (namespace, name) = self.namespace_and_name()?;
        let template = self.template(kind)?;
        let spec: ReplicaSpec = self.spec()?;
        let own = self.metadata.annotations.iter().flatten();
        // What was copied goes with the object's own annotation, also where the template is fixed, as a Job's.
        let copied = template.metadata.annotations.get(keys::COPIED).map(String::as_str).unwrap_or_default();
        let copied: Vec<&str> = annotations::copied(copied).collect();
        let written = template.metadata.annotations.iter().filter(|(key, _)| !copied.contains(&key.as_str()));
        let mut merged: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, value) in written.chain(own) {
            merged.insert(key, value);
        }
        Ok(Some(Workload {
            reference: WorkloadRef::new(kind, name),
            namespace,
            uid: self.metadata.uid.as_deref().unwrap_or_default().into(),
            created: self.created(),
            service_account: template.spec.account().into(),
            request: annotations::parse(merged),
            template_labels: template.metadata.labels.into(),
            replicas: (kind == WorkloadKind::StatefulSet).then(|| spec.replicas()).flatten(),
        }))
    }

    /// The object as an injected pod; `None` for one that has finished.
    pub(super) fn pod(&self) -> Result<Option<(Namespace, &str, Pod)>, Unreadable> {
        if self.is_finished(WorkloadKind::Pod)? {
            return Ok(None);
        }
        let (namespace, name) = self.namespace_and_name()?;
        let spec: PodSpec = self.spec()?;
        let service_account = spec.account().into();
        let owner = controller(&self.metadata);
        let labels = self.metadata.labels.clone().unwrap_or_default();
        let annotations = self.metadata.annotations.clone().unwrap_or_default();
        let stamp: Option<WorkloadRef> = annotations.get(keys::WORKLOAD).and_then(|text| text.parse().ok());
        let hash = labels.get(TEMPLATE_HASH).map(String::as_str);
        let workload = owner.and_then(|owner| {
            workload_of_pod(&owner.api_version, &owner.kind, &owner.name, hash, stamp.as_ref())
        });
        let ours = |key: &str| key.starts_with(keys::PREFIX) && !keys::OWN_KEYS.contains(&key);
        let facts = PodFacts {
            uid: self.metadata.uid.as_deref().unwrap_or_default().into(),
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
            annotations: annotations.into_iter().filter(|(key, _)| ours(key)).collect(),
        };
        Ok(Some((namespace, name, Pod::new(facts))))
    }

    /// The object as a Service.
    pub(crate) fn service(&self) -> Result<Service, Unreadable> {
        let (namespace, name) = self.namespace_and_name()?;
        let spec: ServiceSpec = self.spec()?;
        let kind = match (spec.kind.as_deref(), spec.cluster_ip.as_deref()) {
            (Some("ExternalName"), _) => ServiceKind::ExternalName,
            (_, Some("None")) => ServiceKind::Headless,
            _ => ServiceKind::ClusterIp,
        };
        Ok(Service { name: name.into(), namespace, selector: spec.selector.unwrap_or_default().into(), kind })
    }

    /// The object as the facts of a Secret.
    pub(crate) fn secret(&self) -> Result<(Namespace, SecretFacts), Unreadable> {
        let (namespace, name) = self.namespace_and_name()?;
        let name: SecretName = name.parse().map_err(|why| Unreadable::Name(format!("{why}")))?;
        let ObjectMeta { uid, labels, annotations, .. } = &self.metadata;
        let owner = controller(&self.metadata).map(|owner| Owner {
            reference: format!("{}/{}", owner.kind, owner.name).into(),
            uid: owner.uid.as_str().into(),
        });
        let (labels, annotations) =
            (labels.clone().unwrap_or_default(), annotations.clone().unwrap_or_default());
        let uid = uid.as_deref().unwrap_or_default();
        Ok((namespace, SecretFacts::new(name, uid, &labels, &annotations, owner)))
    }

    /// Whether the content of a Secret, and what stands on it about that, was last written by us alone, as its
    /// `managedFields` tell: whoever changes a field takes it over.
    pub(crate) fn was_written_by_us(&self) -> bool {
        let entries = self.metadata.managed_fields.iter().flatten();
        let (ours, others): (Vec<_>, Vec<_>) =
            entries.partition(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
        let own = |entries: &[&ManagedFieldsEntry], path: &[&str], key: &str| {
            entries.iter().filter_map(|entry| entry.fields_v1.as_ref()).any(|fields| {
                let within = path.iter().try_fold(&fields.0, |fields, step| fields.get(step));
                within.is_some_and(|fields| fields.get(format!("f:{key}")).is_some())
            })
        };
        [CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE].iter().all(|key| own(&ours, &["f:data"], key))
            && RECORDED.iter().all(|key| own(&ours, &["f:metadata", "f:annotations"], key))
            // What an earlier version wrote has none.
            && !own(&others, &["f:data"], WORKLOAD_FILE)
    }

    fn created(&self) -> Option<OffsetDateTime> {
        let created = self.metadata.creation_timestamp.as_ref()?;
        OffsetDateTime::from_unix_timestamp(created.0.as_second()).ok()
    }

    fn template(&self, kind: WorkloadKind) -> Result<Template, Unreadable> {
        match kind {
            WorkloadKind::Pod => {
                let labels = self.metadata.labels.clone().unwrap_or_default();
                let metadata = TemplateMeta { labels, annotations: BTreeMap::new() };
                Ok(Template { metadata, spec: self.spec()? })
            }
            WorkloadKind::CronJob => Ok(self.spec::<CronJobSpec>()?.job_template.spec.template),
            WorkloadKind::Deployment
            | WorkloadKind::StatefulSet
            | WorkloadKind::DaemonSet
            | WorkloadKind::ReplicaSet
            | WorkloadKind::Job => Ok(self.spec::<TemplateSpec>()?.template),
        }
    }

    /// Whether it is a pod or Job that runs nothing any more, and never will.
    fn is_finished(&self, kind: WorkloadKind) -> Result<bool, Unreadable> {
        Ok(match kind {
            WorkloadKind::Pod => matches!(&*self.status()?.phase, "Succeeded" | "Failed"),
            WorkloadKind::Job => {
                let status = self.status()?;
                status.has("Complete") || status.has("Failed")
            }
            _ => false,
        })
    }

    /// Whether the pods that it makes are injected, whatever it says itself.
    pub(crate) fn keeps_injecting(&self, kind: WorkloadKind) -> bool {
        let template = self.template(kind).unwrap_or_default();
        template.metadata.annotations.get(keys::INJECT).is_some_and(|value| value == keys::TRUE)
    }

    /// Whether it has the label by which the watches find it.
    pub(crate) fn is_managed(&self) -> bool {
        let labels = self.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(keys::MANAGED)).is_some_and(|value| value == keys::TRUE)
    }

    fn status(&self) -> Result<Status, Unreadable> {
        match &self.status {
            Some(status) => serde_json::from_str(status.get()).map_err(Unreadable::Status),
            None => Ok(Status::default()),
        }
    }

    fn spec<T: for<'de> Deserialize<'de> + Default>(&self) -> Result<T, Unreadable> {
        match &self.spec {
            Some(spec) => Ok(serde_json::from_str(spec.get())?),
            None => Ok(T::default()),
        }
    }
}

impl<K> From<PartialObjectMeta<K>> for Seen {
    fn from(partial: PartialObjectMeta<K>) -> Self {
        Self::from_metadata(partial.metadata)
    }
}

/// The owner reference that has `controller: true`.
pub(crate) fn controller(
    metadata: &ObjectMeta,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether another workload makes the object, and decides about it.
pub(crate) fn is_controlled_by_workload(kind: WorkloadKind, metadata: &ObjectMeta) -> bool {
    controller(metadata)
        .is_some_and(|owner| controlling_workload(kind, &owner.api_version, &owner.kind).is_some())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
    #[serde(deserialize_with = "null_is_default")]
    conditions: Vec<Condition>,
}

impl Status {
    /// Whether the condition is true.
    fn has(&self, kind: &str) -> bool {
        self.conditions.iter().any(|condition| condition.kind == kind && condition.status == "True")
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateSpec {
    template: Template,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CronJobSpec {
    job_template: JobTemplate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JobTemplate {
    spec: TemplateSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMeta,
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    #[serde(deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    service_account_name: Option<String>,
    hostname: Option<String>,
    subdomain: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ReplicaSpec {
    replicas: Option<i32>,
    service_name: Option<String>,
    ordinals: Option<Ordinals>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ordinals {
    start: i32,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    selector: Option<BTreeMap<String, String>>,
}

impl PodSpec {
    /// The account the API server fills in when the template names none.
    fn account(&self) -> &str {
        self.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
    }
}

impl ReplicaSpec {
    fn replicas(self) -> Option<Replicas> {
        let start = self.ordinals.map_or(0, |ordinals| ordinals.start).try_into().unwrap_or(0_u32);
        let count = self.replicas.unwrap_or(1).try_into().unwrap_or(0_u32);
        let governing_service = self.service_name.filter(|name| !name.is_empty())?.into();
        Some(Replicas { governing_service, ordinals: start..start.saturating_add(count) })
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Resource for Seen {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(kind)
    }
    fn group(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(kind)
    }
    fn version(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(kind)
    }
    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(kind)
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The label selector of workloads that opted in and of Secrets.
pub(super) fn managed_selector() -> String {
    format!("{}={}", keys::MANAGED, keys::TRUE)
}

/// The label selector of pods.
pub(super) fn injected_selector() -> String {
    format!("{}={}", keys::INJECTED, keys::TRUE)
}

/// The field selector of pods: those that finish leave the watch.
pub(super) const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
