//! The verification of a bundle before it is published, by a verifier (rustls-webpki) that does not take part in issuing.

mod error;
mod facts;

use std::time::Duration;

use certmint_contract::issuance::Bundle;
use certmint_contract::{DnsName, SpiffeId};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime, pem::PemObject};
use time::OffsetDateTime;
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext,
};

pub use self::error::VerifyError;
pub use self::facts::LeafFacts;

use self::facts::ParsedLeaf;
use crate::PrivateKey;

/// Names that a leaf must have.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedLeaf<'a> {
    /// DNS names, no more and no fewer, in any order. `None` accepts all names.
    pub dns_names: Option<&'a [DnsName]>,
    /// SPIFFE ID, the only URI of the certificate.
    pub identity: ExpectedIdentity<'a>,
}

/// SPIFFE ID that a leaf must have.
#[derive(Clone, Copy, Debug)]
pub enum ExpectedIdentity<'a> {
    /// Whole ID.
    Id(&'a SpiffeId),
    /// Path of the ID, `/ns/NAMESPACE/sa/ACCOUNT`, in any trust domain.
    Path(&'a str),
}

/// Verifies a bundle.
///
/// The bundle must be complete and valid at `now`, for both server and client use. The key must belong to the leaf, the leaf
/// must chain to a root of the bundle, and it must have the expected names.
///
/// # Errors
/// When one of these conditions is not met. The error names the first condition that is not met.
pub fn verify(
    bundle: &Bundle,
    expected: &ExpectedLeaf<'_>,
    now: OffsetDateTime,
) -> Result<LeafFacts, VerifyError> {
    let chain = certificates(&bundle.certificate, "certificate chain")?;
    let (leaf, intermediates) = chain.split_first().ok_or(VerifyError::Empty("certificate chain"))?;
    let roots = certificates(&bundle.trust_bundle.roots, "trust bundle")?;
    let anchors = valid_anchors(&roots, now)?;
    let key = PrivateKey::from_pem(&bundle.private_key)?;
    verify_leaf(leaf, intermediates, &anchors, &key, expected, now)
}

/// Verifies a leaf with trust anchors that are valid at `now`.
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

/// Returns the roots that are valid at `now`. A [`TrustAnchor`] has no validity period, so webpki does not check that
/// of a root.
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

/// Parses all certificates of a PEM text.
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

/// Checks that the names are exactly the expected names, and that the verifier accepts each of them.
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

/// Validator of both extended key usages in one verification of the chain.
///
/// CAs usually have no extended key usage. This validator does not know whether it checks a CA or a leaf, so it accepts a
/// certificate without extended key usage. [`ParsedLeaf::check_usage`] rejects such a leaf.
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
