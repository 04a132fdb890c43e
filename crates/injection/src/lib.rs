//! The decisions of the webhook: the input is an object as JSON, and the result is an RFC 6902 patch or a [`Rejection`].
//!
//! The crate is pure: it uses no clock, no randomness and no network. It reads an object through a borrowed view of the
//! fields that matter (`input`). So unknown fields stay as they are, and a large object needs little more memory than
//! its own text. If the webhook gets an object again with its patch applied, the second patch is empty.
//!
//! Invariant: an object that did not opt in gets no patch, except one that removes the changes of an earlier opt-in. In
//! a pod that opted in, only these parts change: `spec.volumes`, `spec.initContainers`,
//! `spec.containers[*].volumeMounts`, Certmint's labels and annotations, and an annotation for the cluster autoscaler
//! (`pod/eviction.rs`).

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
