//! A PEM text with the roots that peers trust.

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{CaCertificate, CaError, Tier};

/// Maximum number of roots in one text. A rotation needs two.
const MAX_ROOTS: usize = 8;

/// Roots that peers trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Root of the CA that issues.
    pub first: CaCertificate,
    /// Other roots, for instance the next or the previous one during a rotation.
    pub others: Vec<CaCertificate>,
}

/// Parses a PEM text with one root or more. This function checks neither validity periods nor signatures.
///
/// # Errors
/// When there is no certificate or more than eight, or one of them does not belong to a CA.
pub fn parse_roots(pem: &str) -> Result<Roots, CaError> {
    let mut roots = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_ROOTS + 1).map(|der| match der {
        Ok(der) => CaCertificate::from_der(Tier::Root, der),
        Err(why) => Err(CaError::Malformed { tier: Tier::Root, why: why.to_string() }),
    });
    let first = roots.next().ok_or(CaError::NotPem(Tier::Root))??;
    let others: Vec<_> = roots.collect::<Result<_, _>>()?;
    if others.len() >= MAX_ROOTS {
        return Err(CaError::NotPem(Tier::Root));
    }
    Ok(Roots { first, others })
}

impl Roots {
    /// Iterates over the roots. The first is the root of the CA that issues.
    pub fn iter(&self) -> impl Iterator<Item = &CaCertificate> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Returns the roots as one PEM text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.iter().map(CaCertificate::pem).collect()
    }
}
