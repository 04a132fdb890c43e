//! Objects as a watch delivers them, and their conversion into the planner's types.

mod decode;
mod error;
mod pod;
mod service;
mod specs;
mod workload;

use std::borrow::Cow;

use certmint_contract::ownership::controlling_workload;
use certmint_contract::{Namespace, SecretName, WorkloadKind, keys};
use certmint_planner::{Owner, SecretFacts};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta};
use kube::core::DynamicResourceScope;
use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) use decode::WatchEvent;
pub(super) use error::{ExceededLimit, Unreadable};
use specs::Status;

/// Object as its watch delivers it.
///
/// The spec and the status stay text until the object's kind is known, so an object that cannot be read does not break
/// the list or the watch that contains it. The metadata is limited: see [`super::metadata`].
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchedObject {
    /// Metadata. In an object that a watch delivered, the annotations are only Certmint's, and the owner references only
    /// the controlling one.
    pub(crate) metadata: ObjectMeta,
    /// The object has more labels than `metadata` contains.
    labels_cut: bool,
    /// See [`Self::was_written_by_certmint`].
    written_by_certmint: bool,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
    /// Length of the object's text in bytes, when it was too long to be kept.
    too_long: Option<usize>,
}

impl WatchedObject {
    /// Creates an object of which only the metadata is known.
    pub(crate) fn from_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, ..Self::default() }
    }

    /// Returns namespace and name.
    ///
    /// # Errors
    /// When one of them is missing or not valid.
    pub(crate) fn namespace_and_name(&self) -> Result<(Namespace, &str), Unreadable> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let namespace = text(&self.metadata.namespace).parse::<Namespace>();
        let namespace = namespace.map_err(|why| Unreadable::Name(why.to_string()))?;
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name.is_empty() { Err(Unreadable::Name("it is missing".into())) } else { Ok((namespace, name)) }
    }

    /// Returns the object's uid, or an empty text.
    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Reads the object as a Secret.
    pub(crate) fn secret(&self) -> Result<(Namespace, SecretFacts), Unreadable> {
        let (namespace, name) = self.namespace_and_name()?;
        let name: SecretName = name.parse().map_err(|why| Unreadable::Name(format!("{why}")))?;
        self.check_length()?;
        let owner = controlling_owner(&self.metadata).map(|owner| Owner {
            reference: format!("{}/{}", owner.kind, owner.name).into(),
            uid: owner.uid.as_str().into(),
        });
        let labels = self.metadata.labels.clone().unwrap_or_default();
        let annotations = self.metadata.annotations.clone().unwrap_or_default();
        Ok((namespace, SecretFacts::new(name, self.uid(), &labels, &annotations, owner)))
    }

    /// Returns whether Certmint alone last wrote the content of a Secret and the annotations about it. The
    /// `managedFields` show that: a client that changes a field becomes its manager.
    pub(crate) fn was_written_by_certmint(&self) -> bool {
        self.written_by_certmint
    }

    /// Returns whether the object has the label by which the watches select workloads and Secrets.
    pub(crate) fn is_managed(&self) -> bool {
        let labels = self.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(keys::MANAGED)).is_some_and(|value| value == keys::TRUE)
    }

    fn check_length(&self) -> Result<(), ExceededLimit> {
        self.too_long.map_or(Ok(()), |length| Err(ExceededLimit::Object(length)))
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

impl<K> From<PartialObjectMeta<K>> for WatchedObject {
    fn from(partial: PartialObjectMeta<K>) -> Self {
        Self::from_metadata(partial.metadata)
    }
}

/// Returns the owner reference that has `controller: true`.
pub(crate) fn controlling_owner(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Returns whether another workload controls the object, so that the object is not a workload of its own.
pub(crate) fn is_controlled_by_workload(kind: WorkloadKind, metadata: &ObjectMeta) -> bool {
    controlling_owner(metadata)
        .is_some_and(|owner| controlling_workload(kind, &owner.api_version, &owner.kind).is_some())
}

impl Resource for WatchedObject {
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
