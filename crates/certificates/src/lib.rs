//! The X.509 profile of Certmint: keys, the CA, leaves, and their verification.
//!
//! Pure: the moment, serial numbers and lifetimes are arguments; keys come from the crypto library's own
//! generator. What issues lies behind the feature `issue`; what verifies needs no part of it, so that a
//! certificate is judged by other code than made it, and a program that only verifies stays small.

#[cfg(feature = "issue")]
pub mod ca;
mod hex;
#[cfg(feature = "issue")]
mod issuer;
pub mod key;
#[cfg(feature = "issue")]
pub mod leaf;
#[cfg(feature = "issue")]
mod pem;
#[cfg(feature = "issue")]
pub mod serial;
#[cfg(feature = "issue")]
pub mod signer;
pub mod verify;

#[cfg(feature = "issue")]
pub use ca::{
    Authority, AuthorityPem, CaCertificate, CaError, CaPem, IssuingCa, IssuingProfile, KeyIdentifier, RootCa,
    RootProfile, Tier,
};
pub use key::{KeyError, PrivateKey};
#[cfg(feature = "issue")]
pub use leaf::{IssueError, IssuedLeaf, Leaf, LeafProfile};
#[cfg(feature = "issue")]
pub use serial::Serial;
#[cfg(feature = "issue")]
pub use signer::{Signer, SignerError};
pub use verify::{ExpectedIdentity, ExpectedLeaf, LeafFacts, VerifyError, verify};
