//! From what a watch delivers to what is kept.

use super::{
    bounded::{Fill, LabelMap, MAX_LABEL_BYTES, MAX_LABELS, Metadata, OurAnnotations},
    pieces::Piece,
    pods::{Full, Pod, PodFacts, PodOwner},
};
use certmint_contract::{
    Namespace, OptIn, SecretName, WorkloadKind, WorkloadRef, annotations, keys,
    ownership::{TEMPLATE_HASH, controlling_workload, workload_of_pod},
};
use certmint_planner::{Labels, Owner, PodHost, Replicas, SecretFacts, Service, ServiceKind, Workload};
use kube::{
    Resource,
    api::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta},
    core::{DynamicResourceScope, Status as Failure},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap, fmt};
use time::OffsetDateTime;

/// An object as its watch delivers it. The spec stays text until its kind is known, so that an object that
/// cannot be read does not break the list or the watch it came with. Of labels, annotations and owners no more is
/// kept than is needed and bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Metadata, with annotations of ours only and the controlling owner only.
    pub(crate) metadata: ObjectMeta,
    labels_cut: bool,
    written_by_us: bool,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
    /// How long its text is, when that was too long to be kept.
    too_long: Option<usize>,
}

/// What one line of a watch tells.
#[derive(Debug)]
pub(super) enum Told {
    /// An object is there, or has changed.
    Apply(Seen),
    /// An object is gone.
    Delete(Seen),
    /// Nothing but how far the watch has come.
    Bookmark(Seen),
    /// The watch cannot go on, or not as it is.
    Error(Box<Failure>),
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
    /// It is larger than what is kept of an object.
    #[error(transparent)]
    Excess(#[from] Excess),
}

/// What of an object, or of all objects of a namespace, is more than is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    /// The whole object.
    #[error("it has {0} bytes, which is more than Certmint reads of one object; make it smaller")]
    Object(usize),
    /// A Service's selector.
    #[error(
        "its selector has more than {MAX_LABELS} labels or {MAX_LABEL_BYTES} bytes, so no certificate gets its names; select by fewer labels"
    )]
    Selector,
    /// All objects of the namespace.
    #[error(
        "its namespace holds more Services, workloads and Secrets for Certmint than its share of the controller's memory; remove what nobody needs, or raise controller.resources.limits.memory"
    )]
    Namespace,
}

impl Seen {
    /// An object of which only metadata matters.
    pub(crate) fn from_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, ..Self::default() }
    }

    /// Reads an object's text. Of one that is too long, what its text begins with.
    pub(super) fn read(piece: &Piece<'_>) -> Result<Self, serde_json::Error> {
        let mut seen = Self::default();
        let mut text = serde_json::Deserializer::from_slice(piece.text);
        let read = FillSeen(&mut seen).deserialize(&mut text);
        seen.settle(piece, read)
    }

    fn settle(
        mut self,
        piece: &Piece<'_>,
        read: Result<(), serde_json::Error>,
    ) -> Result<Self, serde_json::Error> {
        if piece.text.len() < piece.length {
            self.too_long = Some(piece.length);
        } else {
            read?;
        }
        Ok(self)
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
        self.described(kind).map(Some)
    }

    /// The object as a workload that opted out, also when it has finished: its Secret is not wanted any more.
    pub(crate) fn opted_out(&self, kind: WorkloadKind) -> Result<Option<Workload>, Unreadable> {
        if is_controlled_by_workload(kind, &self.metadata) {
            return Ok(None);
        }
        let workload = self.described(kind)?;
        Ok((workload.request == Ok(OptIn::No)).then_some(workload))
    }

    fn described(&self, kind: WorkloadKind) -> Result<Workload, Unreadable> {
        let (namespace, name) = self.namespace_and_name()?;
        self.check_length()?;
        let template = self.template(kind)?;
        let spec: ReplicaSpec = self.spec()?;
        let replicas = match kind {
            WorkloadKind::StatefulSet => spec.replicas(),
            WorkloadKind::Job => spec.completions(template.spec.subdomain.as_deref()),
            _ => None,
        };
        // Where pods are numbered, their controller overwrites what the template calls them.
        let host = if replicas.is_none() { template.spec.host() } else { None };
        let own = self.metadata.annotations.iter().flatten();
        // What was copied goes with the object's own annotation, also where the template is fixed, as a Job's.
        let annotations_of_template = &template.metadata.annotations.0;
        let copied = annotations_of_template.get(keys::COPIED).map(String::as_str).unwrap_or_default();
        let copied: Vec<&str> = annotations::copied(copied).collect();
        let written = annotations_of_template.iter().filter(|(key, _)| !copied.contains(&key.as_str()));
        let mut merged: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, value) in written.chain(own) {
            merged.insert(key, value);
        }
        Ok(Workload {
            reference: WorkloadRef::new(kind, name),
            namespace,
            uid: self.metadata.uid.as_deref().unwrap_or_default().into(),
            created: self.created(),
            service_account: template.spec.account().into(),
            request: annotations::parse(merged),
            template_labels: template.metadata.labels.into(),
            replicas,
            host,
        })
    }

    /// The object as an injected pod; `None` for one that has finished.
    pub(super) fn pod(&self) -> Result<Option<(Namespace, &str, Pod)>, Unreadable> {
        if self.is_finished(WorkloadKind::Pod)? {
            return Ok(None);
        }
        let (namespace, name) = self.namespace_and_name()?;
        self.check_length()?;
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
        self.check_length()?;
        let spec: ServiceSpec = self.spec()?;
        let kind = match (spec.kind.as_deref(), spec.cluster_ip.as_deref()) {
            (Some("ExternalName"), _) => ServiceKind::ExternalName,
            (_, Some("None")) => ServiceKind::Headless,
            _ => ServiceKind::ClusterIp,
        };
        let selector = spec.selector.unwrap_or_default();
        if selector.cut {
            // What is left of it would select more pods than it does.
            return Err(Excess::Selector.into());
        }
        Ok(Service { name: name.into(), namespace, selector: selector.into(), kind })
    }

    /// The object as the facts of a Secret.
    pub(crate) fn secret(&self) -> Result<(Namespace, SecretFacts), Unreadable> {
        let (namespace, name) = self.namespace_and_name()?;
        let name: SecretName = name.parse().map_err(|why| Unreadable::Name(format!("{why}")))?;
        self.check_length()?;
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
        self.written_by_us
    }

    fn check_length(&self) -> Result<(), Excess> {
        self.too_long.map_or(Ok(()), |length| Err(Excess::Object(length)))
    }

    fn created(&self) -> Option<OffsetDateTime> {
        let created = self.metadata.creation_timestamp.as_ref()?;
        OffsetDateTime::from_unix_timestamp(created.0.as_second()).ok()
    }

    fn template(&self, kind: WorkloadKind) -> Result<Template, Unreadable> {
        match kind {
            WorkloadKind::Pod => {
                let kept = self.metadata.labels.clone().unwrap_or_default();
                let labels = LabelMap { kept, cut: self.labels_cut };
                let metadata = TemplateMeta { labels, annotations: OurAnnotations::default() };
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
        template.metadata.annotations.0.get(keys::INJECT).is_some_and(|value| value == keys::TRUE)
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
    labels: LabelMap,
    annotations: OurAnnotations,
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
    completions: Option<u32>,
    completion_mode: Option<String>,
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
    selector: Option<LabelMap>,
}

impl PodSpec {
    /// The account the API server fills in when the template names none.
    fn account(&self) -> &str {
        self.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
    }
}

impl PodSpec {
    /// What its pods are called in DNS.
    fn host(&self) -> Option<PodHost> {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty()).map(Into::into);
        Some(PodHost { hostname: text(&self.hostname)?, subdomain: text(&self.subdomain)? })
    }
}

impl ReplicaSpec {
    /// The pods of an Indexed Job, which are named after their numbers.
    fn completions(&self, subdomain: Option<&str>) -> Option<Replicas> {
        let is_indexed = self.completion_mode.as_deref() == Some("Indexed");
        let governing_service = subdomain.filter(|name| is_indexed && !name.is_empty())?.into();
        Some(Replicas { governing_service, ordinals: 0..self.completions.unwrap_or(1) })
    }

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

impl From<LabelMap> for Labels {
    fn from(map: LabelMap) -> Self {
        let labels = Self::from(map.kept);
        if map.cut { labels.cut() } else { labels }
    }
}

/// Fills in an object, so that what was read before an error is not lost.
struct FillSeen<'a>(&'a mut Seen);

impl<'de> DeserializeSeed<'de> for FillSeen<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FillSeen<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let seen = self.0;
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "metadata" => {
                    let mut metadata = Metadata::default();
                    let read = map.next_value_seed(Fill(&mut metadata));
                    seen.metadata = metadata.object;
                    seen.labels_cut = metadata.labels_cut;
                    seen.written_by_us = metadata.written_by_us;
                    read?;
                }
                "spec" => seen.spec = map.next_value()?,
                "status" => seen.status = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut seen = Self::default();
        FillSeen(&mut seen).deserialize(deserializer)?;
        Ok(seen)
    }
}

impl Told {
    /// Reads a line of a watch; `None` for a kind of event that is not known.
    pub(super) fn read(piece: &Piece<'_>) -> Result<Option<Self>, serde_json::Error> {
        let (mut kind, mut seen) = (String::new(), Seen::default());
        let mut text = serde_json::Deserializer::from_slice(piece.text);
        let read = FillEvent { kind: &mut kind, seen: &mut seen }.deserialize(&mut text);
        if kind == "ERROR" {
            let error: ErrorEvent = serde_json::from_slice(piece.text)?;
            return Ok(Some(Self::Error(Box::new(error.object))));
        }
        let seen = seen.settle(piece, read)?;
        Ok(match &*kind {
            "ADDED" | "MODIFIED" => Some(Self::Apply(seen)),
            "DELETED" => Some(Self::Delete(seen)),
            "BOOKMARK" => Some(Self::Bookmark(seen)),
            _ => None,
        })
    }
}

#[derive(Deserialize)]
struct ErrorEvent {
    object: Failure,
}

/// Fills in an event of a watch.
struct FillEvent<'a> {
    kind: &'a mut String,
    seen: &'a mut Seen,
}

impl<'de> DeserializeSeed<'de> for FillEvent<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FillEvent<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { kind, seen } = self;
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "type" => *kind = map.next_value()?,
                "object" => map.next_value_seed(FillSeen(seen))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
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
