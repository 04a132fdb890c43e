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

    /// Returns the roots as one PEM text. The order does not depend on which root issues, so that the same set of roots
    /// always has the same text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let mut roots: Vec<_> = self.iter().map(CaCertificate::pem).collect();
        roots.sort_unstable();
        roots.concat()
    }
}

#[cfg(test)]
mod tests {
    use certmint_contract::{KeyAlgorithm, TrustDomain};
    use time::OffsetDateTime;

    use super::*;
    use crate::ca::{RootCa, RootProfile};
    use crate::{PrivateKey, Serial};

    fn root(octet: u8) -> String {
        let trust_domain: TrustDomain = "cluster.local".parse().unwrap();
        let profile = RootProfile { trust_domain: &trust_domain, lifetime: "1d".parse().unwrap() };
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let created =
            RootCa::create(&profile, key, Serial::from_random([octet; 20]), OffsetDateTime::now_utc());
        created.unwrap().certificate().pem().to_owned()
    }

    #[test]
    fn a_set_of_roots_has_one_text() {
        let [one, two] = [root(1), root(2)];
        let texts = [one.clone() + &two, two.clone() + &one].map(|pem| parse_roots(&pem).unwrap());
        assert_eq!(texts[0].to_pem(), texts[1].to_pem());
        assert_eq!(texts[0].first.pem(), one);
        assert_eq!(texts[1].first.pem(), two);
        assert_eq!(parse_roots(&one).unwrap().to_pem(), one);
    }

    #[test]
    fn the_number_of_roots_is_limited() {
        let one = root(1);
        assert_eq!(parse_roots(&one.repeat(MAX_ROOTS)).unwrap().iter().count(), MAX_ROOTS);
        assert!(parse_roots(&one.repeat(MAX_ROOTS + 1)).is_err());
        assert!(parse_roots("").is_err());
        assert!(parse_roots("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").is_err());
    }
}
