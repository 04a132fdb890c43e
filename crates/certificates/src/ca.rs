//! The certificate authority: a root CA, and the short-lived issuing CAs that it signs.

mod authority;
mod certificate;
mod error;
mod issuing;
mod root;
mod roots;

pub use authority::{Authority, AuthorityPem, CaPem};
pub use certificate::{CaCertificate, KeyIdentifier};
pub use error::{CaError, Tier};
pub use issuing::{IssuingCa, IssuingProfile};
pub use root::{RootCa, RootProfile};
pub use roots::{Roots, parse_roots};
