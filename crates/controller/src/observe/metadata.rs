//! Reads the metadata of an object up to limits. The API server limits the length of a label, but not the number of
//! labels, so a tenant could fill the controller's memory with labels.

mod bounded_map;
mod managed_fields;

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::ObjectMeta;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use bounded_map::BoundedMapVisitor;
pub(super) use bounded_map::{BoundedEntries, CertmintAnnotations, MAX_LABEL_BYTES, MAX_LABELS};
use managed_fields::ManagedFields;

/// Maximum length of a text in an owner reference, in bytes. A valid name has at most 253 characters.
const MAX_OWNER_TEXT_BYTES: usize = 320;

/// Metadata of an object, as far as it is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    /// Metadata. Of the annotations, it contains only Certmint's; of the owner references, only the controlling one.
    pub(super) object: ObjectMeta,
    /// The object has more labels than are kept.
    pub(super) labels_cut: bool,
    /// Certmint's field manager alone manages the content of the Secret and the annotations about it.
    pub(super) written_by_certmint: bool,
}

/// Fills in [`Metadata`], so that the fields that were read before an error are known.
pub(super) struct FillMetadata<'a>(pub(super) &'a mut Metadata);

impl<'de> DeserializeSeed<'de> for FillMetadata<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FillMetadata<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Metadata { object, labels_cut, written_by_certmint } = self.0;
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "name" => object.name = map.next_value()?,
                "namespace" => object.namespace = map.next_value()?,
                "uid" => object.uid = map.next_value()?,
                "resourceVersion" => object.resource_version = map.next_value()?,
                "generation" => object.generation = map.next_value()?,
                "creationTimestamp" => object.creation_timestamp = map.next_value::<Option<Time>>()?,
                "deletionTimestamp" => object.deletion_timestamp = map.next_value::<Option<Time>>()?,
                "labels" => {
                    let labels = map.next_value_seed(BoundedMapVisitor::LABELS)?;
                    *labels_cut = labels.is_cut;
                    object.labels = Some(labels.kept);
                }
                "annotations" => {
                    object.annotations = Some(map.next_value_seed(BoundedMapVisitor::ANNOTATIONS)?.kept);
                }
                "ownerReferences" => object.owner_references = map.next_value::<ControllingOwner>()?.0,
                "managedFields" => {
                    *written_by_certmint = map.next_value::<ManagedFields>()?.written_by_certmint();
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Owner references, reduced to the reference with `controller: true`.
struct ControllingOwner(Option<Vec<OwnerReference>>);

impl<'de> Deserialize<'de> for ControllingOwner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FindController;
        impl<'de> Visitor<'de> for FindController {
            type Value = ControllingOwner;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("owner references")
            }

            fn visit_unit<E>(self) -> Result<ControllingOwner, E> {
                Ok(ControllingOwner(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut owners: A) -> Result<ControllingOwner, A::Error> {
                let mut found = None;
                while let Some(owner) = owners.next_element::<OwnerReference>()? {
                    if owner.controller == Some(true) && found.is_none() {
                        found = Some(vec![shortened(owner)]);
                    }
                }
                Ok(ControllingOwner(found))
            }
        }
        deserializer.deserialize_any(FindController)
    }
}

/// Shortens the texts of an owner reference. A text that is too long matches no object, and the shortened text matches
/// none either.
fn shortened(mut owner: OwnerReference) -> OwnerReference {
    for text in [&mut owner.api_version, &mut owner.kind, &mut owner.name, &mut owner.uid] {
        text.truncate(text.floor_char_boundary(MAX_OWNER_TEXT_BYTES));
        text.shrink_to_fit();
    }
    owner
}

#[cfg(test)]
mod tests;
