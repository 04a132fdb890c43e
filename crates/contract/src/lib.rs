//! What every side of Certmint agrees on: annotation keys, names, paths, wire types, error codes.
//!
//! Everything here is a value: no clock, no randomness, no network, no Kubernetes client. A type that
//! exists holds a valid value; parsing happens once, at the edge, and its errors say what is allowed.

pub mod annotations;
pub mod dns_name;
pub mod error_code;
mod instant;
pub mod issuance;
pub mod key_algorithm;
pub mod keys;
pub mod lifetime;
pub mod object_name;
pub mod ownership;
pub mod pod_layout;
pub mod policy;
pub mod quantity;
pub mod reload;
mod spelling;
pub mod spiffe;
pub mod workload;

pub use annotations::{OptIn, Request};
pub use dns_name::DnsName;
pub use error_code::ErrorCode;
pub use instant::{rfc3339, rfc3339_of_seconds};
pub use key_algorithm::KeyAlgorithm;
pub use lifetime::Lifetime;
pub use object_name::{Namespace, SecretName};
pub use policy::{Policy, Violation};
pub use quantity::Quantity;
pub use reload::Reload;
pub use spiffe::{SpiffeId, TrustDomain};
pub use workload::{WorkloadKind, WorkloadRef};
