//! Leaves: an X509-SVID with the DNS names of its Services.

use crate::{CaCertificate, CaError, KeyError, LeafFacts, Serial, VerifyError, pem};
use certmint_contract::{DnsName, Lifetime, SpiffeId, issuance::Bundle, lifetime::BACKDATE};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType, string::Ia5String,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

/// What a leaf is to say.
#[derive(Clone, Copy, Debug)]
pub struct LeafProfile<'a> {
    /// In the order they are to stand.
    pub dns_names: &'a [DnsName],
    /// The one URI.
    pub spiffe_id: &'a SpiffeId,
    /// From now on; cut where a CA above ends.
    pub lifetime: Lifetime,
}

/// A signed leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    der: CertificateDer<'static>,
    chain_pem: String,
}

/// A verified leaf with all that its holder needs.
#[derive(Debug)]
pub struct IssuedLeaf {
    /// What is published.
    pub bundle: Bundle,
    /// What the leaf says.
    pub facts: LeafFacts,
}

/// Why a leaf was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The CA is not usable now.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The certificate could not be encoded or signed.
    #[error("the certificate could not be signed: {0}")]
    Sign(#[from] rcgen::Error),
    /// The leaf's key could not be encoded.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The verifier refuses what was signed, for instance because of the CA's name constraints.
    #[error("what was issued does not verify, so it was thrown away: {0}")]
    Unverifiable(#[from] VerifyError),
}

/// Of this length or less a leaf says that nobody will revoke it (RFC 9608).
const UNREVOKED: Duration = Duration::hours(24);
/// id-ce-noRevAvail
const NO_REV_AVAIL: [u64; 4] = [2, 5, 29, 56];
/// The DER of NULL, the value of noRevAvail.
const DER_NULL: [u8; 2] = [5, 0];

impl Leaf {
    pub(crate) fn new(der: CertificateDer<'static>, issuing: &CaCertificate) -> Self {
        let chain_pem = pem::encode("CERTIFICATE", &der) + issuing.pem();
        Self { der, chain_pem }
    }

    /// The certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The leaf, then the issuing CA.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }
}

/// The leaf's parameters: no subject, so that rcgen marks the subject alternative name critical; nothing is
/// left to a default of rcgen.
pub(crate) fn params(
    profile: &LeafProfile<'_>,
    serial: Serial,
    now: OffsetDateTime,
    issuer_ends: OffsetDateTime,
) -> Result<CertificateParams, rcgen::Error> {
    // Certificates know no fractions of a second (RFC 5280 4.1.2.5).
    let now = now.truncate_to_second();
    let not_after = (now + profile.lifetime.duration()).min(issuer_ends);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial.as_bytes().to_vec().into());
    params.not_before = now - BACKDATE;
    params.not_after = not_after;
    params.subject_alt_names = subject_alt_names(profile)?;
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    if not_after - now <= UNREVOKED {
        params.custom_extensions = vec![CustomExtension::from_oid_content(&NO_REV_AVAIL, DER_NULL.to_vec())];
    }
    Ok(params)
}

fn subject_alt_names(profile: &LeafProfile<'_>) -> Result<Vec<SanType>, rcgen::Error> {
    let mut names = Vec::with_capacity(profile.dns_names.len() + 1);
    for name in profile.dns_names {
        names.push(SanType::DnsName(Ia5String::try_from(name.as_str())?));
    }
    names.push(SanType::URI(Ia5String::try_from(profile.spiffe_id.as_str())?));
    Ok(names)
}
