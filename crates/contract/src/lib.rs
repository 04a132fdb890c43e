//! Contract between webhook, controller and certmint-fetch: annotation keys, names, paths, wire types, error codes.
//!
//! The crate uses no clock, randomness, network or Kubernetes client. Input is parsed once, where it enters the
//! program. After that, the types guarantee that the value is valid. A parse error lists what is allowed.

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
pub mod trust;
pub mod workload;

pub use annotations::{OptIn, WorkloadOptions};
pub use dns_name::DnsName;
pub use error_code::ErrorCode;
pub use instant::{rfc3339, rfc3339_of_seconds};
pub use key_algorithm::KeyAlgorithm;
pub use lifetime::Lifetime;
pub use object_name::{Namespace, SecretName};
pub use policy::{Policy, PolicyViolation};
pub use quantity::Quantity;
pub use reload::Reload;
pub use spelling::excerpt;
pub use spiffe::{SpiffeId, TrustDomain};
pub use trust::{TrustBundle, TrustGeneration};
pub use workload::{WorkloadKind, WorkloadRef};
