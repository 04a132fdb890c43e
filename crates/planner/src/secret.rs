//! Facts about a Secret, read from its metadata. The planner never sees the content of a Secret.

use std::collections::BTreeMap;

use certmint_contract::{SecretName, keys};

use crate::{Record, RecordError, Workload};

/// A Secret that has the desired name, or whose owner or record names the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFacts {
    /// `metadata.name`
    pub name: SecretName,
    /// `metadata.uid`, the precondition for a deletion.
    pub uid: Box<str>,
    /// True if the Secret has Certmint's label.
    pub managed: bool,
    /// Owner reference with `controller: true`.
    pub owner: Option<Owner>,
    /// Record in the annotations that Certmint wrote.
    pub record: Result<Record, RecordError>,
    /// Damage that a verifier found in the content, if the controller has read the content.
    pub damage: Option<Box<str>>,
}

/// Owner reference that has `controller: true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Kind and name as `Kind/name`. Certmint may not support the kind.
    pub reference: Box<str>,
    /// `uid`
    pub uid: Box<str>,
}

/// Relationship between a Secret and a workload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SecretOwnership {
    /// Certmint created the Secret for exactly this workload.
    Own,
    /// Certmint created the Secret for this kind and name, but its owner is an earlier workload or is missing.
    Predecessor,
    /// Certmint created the Secret for the named other workload.
    OtherWorkload(Box<str>),
    /// Nothing proves that Certmint created the Secret.
    Foreign,
}

impl SecretFacts {
    /// Reads a Secret's metadata.
    #[must_use]
    pub fn new(
        name: SecretName,
        uid: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
        owner: Option<Owner>,
    ) -> Self {
        Self {
            name,
            uid: uid.into(),
            managed: labels.get(keys::MANAGED).is_some_and(|value| value == keys::TRUE),
            owner,
            record: Record::parse(annotations),
            damage: None,
        }
    }

    /// Returns whether owner and record both say that Certmint created the Secret for exactly this workload. The label
    /// does not matter.
    #[must_use]
    pub fn was_made_for(&self, workload: &Workload) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.uid == workload.uid)
            && self.record.as_ref().is_ok_and(|record| record.workload == workload.reference)
    }

    /// Returns the relationship to a workload. The owner reference has priority over the record, because the uid of an
    /// owner identifies one workload, and the record has only kind and name.
    pub(crate) fn ownership(&self, workload: &Workload) -> SecretOwnership {
        let wanted = workload.reference.to_string();
        match (&self.owner, &self.record) {
            // A label is easily lost, for instance when a tool replaces all labels. Owner and record together are proof
            // without the label.
            _ if !self.managed && !self.was_made_for(workload) => SecretOwnership::Foreign,
            (Some(owner), _) if owner.uid == workload.uid => SecretOwnership::Own,
            (Some(owner), _) if *owner.reference == *wanted => SecretOwnership::Predecessor,
            (Some(owner), _) => SecretOwnership::OtherWorkload(owner.reference.clone()),
            (None, Ok(record)) if record.workload == workload.reference => SecretOwnership::Predecessor,
            (None, Ok(record)) => SecretOwnership::OtherWorkload(record.workload.to_string().into()),
            (None, Err(_)) => SecretOwnership::Foreign,
        }
    }
}
