//! The certificate authority: a root CA, and the short-lived issuing CAs that it signs.

mod authority;
mod certificate;
mod error;
mod import;
mod issuing;
mod request;
mod root;
mod roots;

pub use authority::{Authority, AuthorityPem, CaPem};
pub use certificate::{CaCertificate, KeyIdentifier};
pub use error::{CaError, Tier};
pub use import::{ImportError, ImportFile, ImportRules, ImportedCa, Member, check_import};
pub use issuing::{IssuingCa, IssuingProfile};
pub use request::{RequestProfile, requested_dns, signing_request};
pub use root::{RootCa, RootProfile};
pub use roots::{Roots, parse_roots};
