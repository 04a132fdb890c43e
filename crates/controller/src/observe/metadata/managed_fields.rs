//! Reads from `managedFields` who wrote a Secret.

use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::api::FIELD_MANAGER;

/// Managers of the Secret's fields that the controller compares with the certificate when it inspects the Secret.
#[derive(Default)]
pub(super) struct ManagedFields {
    /// Fields that Certmint manages, of all its entries together.
    of_certmint: Fields,
    /// Another client manages a field that Certmint need not manage, because an earlier version of Certmint did not write
    /// it.
    optional_is_foreign: bool,
}

impl ManagedFields {
    /// Returns whether Certmint manages every field in which it stores a certificate.
    pub(super) fn written_by_certmint(&self) -> bool {
        self.of_certmint.is_complete() && !self.optional_is_foreign
    }
}

impl<'de> Deserialize<'de> for ManagedFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergeEntries;
        impl<'de> Visitor<'de> for MergeEntries {
            type Value = ManagedFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("managed fields")
            }

            fn visit_unit<E>(self) -> Result<ManagedFields, E> {
                Ok(ManagedFields::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<ManagedFields, A::Error> {
                let mut found = ManagedFields::default();
                while let Some(Entry { manager, fields }) = entries.next_element()? {
                    let fields = fields.unwrap_or_default();
                    if manager.as_deref() == Some(FIELD_MANAGER) {
                        found.of_certmint.merge(fields);
                    } else {
                        found.optional_is_foreign |= fields.has_optional();
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_any(MergeEntries)
    }
}

/// Entry of one field manager.
#[derive(Deserialize)]
struct Entry {
    manager: Option<String>,
    #[serde(rename = "fieldsV1")]
    fields: Option<Fields>,
}

/// Fields of a Secret that are compared with the certificate, as `fieldsV1` names them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "f:data")]
    data: DataFields,
    #[serde(rename = "f:metadata")]
    metadata: MetadataFields,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DataFields {
    #[serde(rename = "f:tls.crt")]
    certificate: Option<IgnoredAny>,
    #[serde(rename = "f:tls.key")]
    key: Option<IgnoredAny>,
    #[serde(rename = "f:ca.crt")]
    roots: Option<IgnoredAny>,
    #[serde(rename = "f:workload")]
    workload: Option<IgnoredAny>,
    #[serde(rename = "f:trust-generation")]
    trust_generation: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MetadataFields {
    #[serde(rename = "f:annotations")]
    annotations: AnnotationFields,
}

/// Annotations whose values only the certificate itself can confirm.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AnnotationFields {
    #[serde(rename = "f:certmint.dev/serial")]
    serial: Option<IgnoredAny>,
    #[serde(rename = "f:certmint.dev/issuer")]
    issuer: Option<IgnoredAny>,
    #[serde(rename = "f:certmint.dev/not-before")]
    not_before: Option<IgnoredAny>,
    #[serde(rename = "f:certmint.dev/not-after")]
    not_after: Option<IgnoredAny>,
    #[serde(rename = "f:certmint.dev/trust-generation")]
    trust_generation: Option<IgnoredAny>,
}

impl Fields {
    /// Adds the fields of another entry.
    fn merge(&mut self, other: Self) {
        let DataFields { certificate, key, roots, .. } = other.data;
        let AnnotationFields { serial, issuer, not_before, not_after, .. } = other.metadata.annotations;
        let (data, annotations) = (&mut self.data, &mut self.metadata.annotations);
        for (field, other) in [
            (&mut data.certificate, certificate),
            (&mut data.key, key),
            (&mut data.roots, roots),
            (&mut annotations.serial, serial),
            (&mut annotations.issuer, issuer),
            (&mut annotations.not_before, not_before),
            (&mut annotations.not_after, not_after),
        ] {
            *field = field.or(other);
        }
    }

    /// Returns whether there is a field that earlier versions of Certmint did not write.
    fn has_optional(&self) -> bool {
        let Self { data, metadata } = self;
        [data.workload, data.trust_generation, metadata.annotations.trust_generation]
            .iter()
            .any(Option::is_some)
    }

    fn is_complete(&self) -> bool {
        let (data, annotations) = (&self.data, &self.metadata.annotations);
        [data.certificate, data.key, data.roots].iter().all(Option::is_some)
            && [annotations.serial, annotations.issuer, annotations.not_before, annotations.not_after]
                .iter()
                .all(Option::is_some)
    }
}
