//! Verification of what is about to be published, with a verifier (rustls-webpki) that has no part in
//! issuing.

mod error;
mod facts;

pub use error::VerifyError;
pub use facts::LeafFacts;

use crate::PrivateKey;
use certmint_contract::{DnsName, SpiffeId, issuance::Bundle};
use facts::ParsedLeaf;
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime, pem::PemObject};
use std::time::Duration;
use time::OffsetDateTime;
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext,
};

/// What a certificate must say.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedLeaf<'a> {
    /// Exactly these DNS names, in any order; `None` when the verifier does not know them.
    pub dns_names: Option<&'a [DnsName]>,
    /// Whose certificate it is.
    pub identity: ExpectedIdentity<'a>,
}

/// The SPIFFE id a certificate must carry as its only URI.
#[derive(Clone, Copy, Debug)]
pub enum ExpectedIdentity<'a> {
    /// The whole id.
    Id(&'a SpiffeId),
    /// The id's path, `/ns/NAMESPACE/sa/ACCOUNT`, in whatever trust domain.
    Path(&'a str),
}

/// Verifies that a bundle is whole, valid at `now`, for server and client use alike, and what was expected:
/// the key fits the leaf, the leaf chains to one of the bundle's own roots, and its names are the right ones.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(
    bundle: &Bundle,
    expected: &ExpectedLeaf<'_>,
    now: OffsetDateTime,
) -> Result<LeafFacts, VerifyError> {
    let chain = certificates(&bundle.certificate, "certificate chain")?;
    let (leaf, intermediates) = chain.split_first().ok_or(VerifyError::Empty("certificate chain"))?;
    let roots = certificates(&bundle.trust_bundle, "trust bundle")?;
    let anchors = valid_anchors(&roots, now)?;
    let key = PrivateKey::from_pem(&bundle.private_key)?;
    verify_leaf(leaf, intermediates, &anchors, &key, expected, now)
}

/// Verifies one leaf against anchors that are known to be valid at `now`.
pub(crate) fn verify_leaf(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    key: &PrivateKey,
    expected: &ExpectedLeaf<'_>,
    now: OffsetDateTime,
) -> Result<LeafFacts, VerifyError> {
    let parsed = ParsedLeaf::from_der(leaf)?;
    parsed.check_time(now)?;
    parsed.check_usage()?;
    let certificate = EndEntityCert::try_from(leaf).map_err(VerifyError::Untrusted)?;
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    certificate
        .verify_for_usage(algorithms, anchors, intermediates, unix_time(now), ServerAndClient, None, None)
        .map_err(VerifyError::Untrusted)?;
    if !key.public_key_matches(&certificate.subject_public_key_info()) {
        return Err(VerifyError::KeyDoesNotFit);
    }
    expected.identity.check(&parsed.facts)?;
    if let Some(names) = expected.dns_names {
        check_names(&certificate, names, &parsed.facts)?;
    }
    Ok(parsed.facts)
}

/// The roots that are valid at `now`, because a trust anchor itself carries no dates.
fn valid_anchors<'a>(
    roots: &'a [CertificateDer<'a>],
    now: OffsetDateTime,
) -> Result<Vec<TrustAnchor<'a>>, VerifyError> {
    if roots.is_empty() {
        return Err(VerifyError::Empty("trust bundle"));
    }
    let mut anchors = Vec::with_capacity(roots.len());
    for root in roots {
        if facts::is_valid_at(root, now)? {
            anchors.push(webpki::anchor_from_trusted_cert(root).map_err(VerifyError::Untrusted)?);
        }
    }
    if anchors.is_empty() { Err(VerifyError::NoValidRoot) } else { Ok(anchors) }
}

/// Every certificate of a PEM text, in its order.
fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, VerifyError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|why| VerifyError::Malformed { what, why: why.to_string() })
}

fn unix_time(now: OffsetDateTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.unix_timestamp().try_into().unwrap_or(0)))
}

impl ExpectedIdentity<'_> {
    fn check(&self, facts: &LeafFacts) -> Result<(), VerifyError> {
        let (expected, fits) = match self {
            Self::Id(id) => (id.as_str(), facts.spiffe_id == id.as_str()),
            Self::Path(path) => (*path, facts.spiffe_path() == Some(*path)),
        };
        if fits {
            return Ok(());
        }
        Err(VerifyError::Identity { expected: expected.into(), found: facts.spiffe_id.clone() })
    }
}

/// The names are the expected ones, no more and no fewer, and the verifier takes each of them.
fn check_names(
    certificate: &EndEntityCert<'_>,
    expected: &[DnsName],
    facts: &LeafFacts,
) -> Result<(), VerifyError> {
    let list = |names: &[DnsName]| {
        let mut names: Vec<_> = names.iter().map(DnsName::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    };
    let (expected_list, found) = (list(expected), list(&facts.dns_names));
    if expected_list != found {
        return Err(VerifyError::Names { expected: expected_list, found });
    }
    expected.iter().try_for_each(|name| {
        let server = ServerName::try_from(name.as_str())
            .map_err(|_| VerifyError::Malformed { what: "certificate", why: format!("the name {name}") })?;
        certificate.verify_is_valid_for_subject_name(&server).map_err(VerifyError::Untrusted)
    })
}

/// Both usages in one walk of the chain. CAs usually have no extended key usage; a leaf without one is
/// refused before ([`ParsedLeaf::check_usage`]), because this validator is not told which of the two it sees.
struct ServerAndClient;

impl ExtendedKeyUsageValidator for ServerAndClient {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let present: Vec<_> =
            purposes.map(|purpose| Ok(purpose?.to_decoded_oid())).collect::<Result<_, webpki::Error>>()?;
        let lacks = |purpose: &[usize]| !present.is_empty() && !present.iter().any(|oid| oid == purpose);
        let required = if lacks(KeyUsage::SERVER_AUTH_REPR) {
            KeyUsage::server_auth()
        } else if lacks(KeyUsage::CLIENT_AUTH_REPR) {
            KeyUsage::client_auth()
        } else {
            return Ok(());
        };
        Err(webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}
