//! Leaf certificates: X509-SVIDs with the DNS names of Services.

use certmint_contract::issuance::Bundle;
use certmint_contract::lifetime::BACKDATE;
use certmint_contract::{DnsName, Lifetime, SpiffeId};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use crate::{CaError, KeyError, LeafFacts, Serial, VerifyError, pem};

/// Content of a leaf.
#[derive(Clone, Copy, Debug)]
pub struct LeafProfile<'a> {
    /// DNS names, in the order of the certificate.
    pub dns_names: &'a [DnsName],
    /// SPIFFE ID, the only URI of the certificate.
    pub spiffe_id: &'a SpiffeId,
    /// Lifetime, counted from the issuance. The certificate ends with its issuer at the latest.
    pub lifetime: Lifetime,
}

/// Signed leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    der: CertificateDer<'static>,
    chain_pem: String,
}

/// Verified leaf with its key and the trust bundle.
#[derive(Debug)]
pub struct IssuedLeaf {
    /// Bundle to publish.
    pub bundle: Bundle,
    /// Facts of the leaf.
    pub facts: LeafFacts,
}

/// Reason why a leaf was not issued.
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
    /// The signed leaf fails verification, for instance because of the name constraints of the CA.
    #[error("the issued certificate fails verification and was discarded: {0}")]
    Unverifiable(#[from] VerifyError),
}

/// Longest lifetime of a leaf with the extension noRevAvail, which states that the CA publishes no revocation
/// information (RFC 9608).
const MAX_UNREVOKED_LIFETIME: Duration = Duration::hours(24);
/// Object identifier id-ce-noRevAvail.
const NO_REV_AVAIL: [u64; 4] = [2, 5, 29, 56];
/// DER of NULL, the value of noRevAvail.
const DER_NULL: [u8; 2] = [5, 0];

impl Leaf {
    pub(crate) fn new(der: CertificateDer<'static>, issuer_chain: &str) -> Self {
        let chain_pem = pem::encode("CERTIFICATE", &der) + issuer_chain;
        Self { der, chain_pem }
    }

    /// Returns the certificate as DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Returns the certificates of the leaf, the issuing CA and the intermediate CAs, as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }
}

/// Returns the parameters of a leaf.
///
/// The subject is empty, so that rcgen marks the subject alternative name as critical. rcgen's default name, serial number
/// and validity period are not used.
pub(crate) fn params(
    profile: &LeafProfile<'_>,
    serial: Serial,
    now: OffsetDateTime,
    issuer_ends: OffsetDateTime,
) -> Result<CertificateParams, rcgen::Error> {
    // Times in certificates have no fractions of a second (RFC 5280 4.1.2.5).
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
    if not_after - now <= MAX_UNREVOKED_LIFETIME {
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
