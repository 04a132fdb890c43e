//! The decisions of the webhook: the input is an object as JSON, and the result is an RFC 6902 patch or a [`Rejection`].
//!
//! The crate is pure: it uses no clock, no randomness and no network. It reads an object through a borrowed view of the
//! fields that matter (`input`). So unknown fields stay as they are, and a large object needs little more memory than
//! its own text. A patch that is applied twice has the same result as a patch that is applied once.
//!
//! Invariant: an object that did not opt in gets no patch. In a pod that did, only these parts change: `spec.volumes`,
//! `spec.initContainers`, `spec.containers[*].volumeMounts`, Certmint's labels and annotations, and an annotation for the
//! cluster autoscaler (`pod/eviction.rs`).

mod admission;
mod input;
mod json;
mod labels;
mod output;
mod patch;
mod pod;
mod rejection;
mod settings;
mod workload;

pub use admission::{Injection, Subject};
pub use certmint_contract::Quantity;
pub use patch::Patch;
pub use pod::admit_pod;
pub use rejection::{MountConflict, Rejection};
pub use settings::{InjectionSettings, ResourceDefaults, RunAsUser};
pub use workload::admit_workload;
