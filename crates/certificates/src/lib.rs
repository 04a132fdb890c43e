//! The X.509 profile of Certmint: keys, the CA, leaf certificates, and their verification.
//!
//! The crate is pure: the time, serial numbers and lifetimes are arguments, and only keys come from the random
//! generator of the crypto library. The feature `issue` contains the code that issues certificates. The code that
//! verifies certificates does not use that code, so the verification can find faults of the issuing code. A program
//! that only verifies stays small.

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
