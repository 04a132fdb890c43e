//! What is observed of a Secret: its metadata, never its content.

use crate::{Record, RecordError, Workload};
use certmint_contract::{SecretName, keys};
use std::collections::BTreeMap;

/// A Secret that bears the wanted name or claims to be the workload's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFacts {
    /// `metadata.name`
    pub name: SecretName,
    /// `metadata.uid`, so that exactly this one is removed.
    pub uid: Box<str>,
    /// Whether it has our label.
    pub managed: bool,
    /// Its controlling owner.
    pub owner: Option<Owner>,
    /// What we wrote on it.
    pub record: Result<Record, RecordError>,
    /// What a verifier found wrong with its content, when somebody looked.
    pub damage: Option<Box<str>>,
}

/// The owner reference that has `controller: true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// As `Kind/name`, whatever the kind.
    pub reference: Box<str>,
    /// `uid`
    pub uid: Box<str>,
}

/// How a Secret stands to a workload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Made by us, for this very workload.
    Own,
    /// Made by us for this kind and name, but owned by a workload that no longer is, or by none any more.
    Predecessor,
    /// Made by us, for that other workload.
    Other(Box<str>),
    /// Nothing proves that we made it.
    Foreign,
}

impl SecretFacts {
    /// Reads a Secret's metadata.
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

    /// Whether owner and record both say that it was made for exactly this workload, whatever its label.
    pub fn was_made_for(&self, workload: &Workload) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.uid == workload.uid)
            && self.record.as_ref().is_ok_and(|record| record.workload == workload.reference)
    }

    /// Owner before annotation: the API server keeps owners honest, anybody may write an annotation.
    pub(crate) fn claim(&self, workload: &Workload) -> Claim {
        let wanted = workload.reference.to_string();
        match (&self.owner, &self.record) {
            // A label is lost easily, by a tool that writes all of them for instance.
            _ if !self.managed && !self.was_made_for(workload) => Claim::Foreign,
            (Some(owner), _) if owner.uid == workload.uid => Claim::Own,
            (Some(owner), _) if *owner.reference == *wanted => Claim::Predecessor,
            (Some(owner), _) => Claim::Other(owner.reference.clone()),
            (None, Ok(record)) if record.workload == workload.reference => Claim::Predecessor,
            (None, Ok(record)) => Claim::Other(record.workload.to_string().into()),
            (None, Err(_)) => Claim::Foreign,
        }
    }
}
