//! What the webhook changes: an object as JSON in, an RFC 6902 patch out, or a refusal in words.
//!
//! Pure: no clock, no randomness, no network. The object is read through a borrowed view of the few
//! fields that matter, so that unknown fields survive and a large object costs no more memory than its
//! own text. A patch applied twice equals a patch applied once.
//!
//! Invariant: what did not opt in gets no patch. Of a pod that did, only `spec.volumes`,
//! `spec.initContainers`, `spec.containers[*].volumeMounts` and labels and annotations of ours change.

mod input;
mod json;
mod labels;
mod output;
mod patch;
mod pod;
mod rejection;
mod settings;
mod workload;

pub use certmint_contract::Quantity;
pub use patch::Patch;
pub use pod::admit_pod;
pub use rejection::{MountConflict, Rejection};
pub use settings::{InjectionSettings, ResourceDefaults, RunAsUser};
pub use workload::admit_workload;

/// One object under admission.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The namespace of the request; the object itself may not say it.
    pub namespace: &'a str,
    /// The name of the request, for an object that does not say it.
    pub name: Option<&'a str>,
    /// The object, as JSON.
    pub object: &'a str,
    /// On UPDATE, what it was before, as JSON.
    pub before: Option<&'a str>,
}

/// What happens to an object that is admitted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Injection {
    /// Empty when the object is already as it should be, or did not opt in.
    pub patch: Patch,
    /// Sentences for the user, which `kubectl` prints.
    pub warnings: Vec<String>,
}
