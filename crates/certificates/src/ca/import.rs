//! The import of an issuing CA that another CA signed, for instance the company's offline root.
//!
//! An import is checked completely before it is used. A certificate that one verifier accepts and another rejects would
//! become an outage, so the checks are those of the strictest verifiers (webpki, OpenSSL with `-x509_strict`, Go and
//! Java). The last check issues a leaf and verifies its chain up to the root.

mod constraints;
mod error;
mod member;

use std::slice;

use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, Namespace, SpiffeId, TrustDomain};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;

use super::{CaCertificate, IssuingCa, Tier};
use crate::verify::verify_leaf;
use crate::{ExpectedIdentity, ExpectedLeaf, LeafProfile, PrivateKey, Serial};

pub use self::error::{ImportError, ImportFile, Member};

use self::member::Parsed;

/// Requirements for an import.
#[derive(Clone, Copy, Debug)]
pub struct ImportRules<'a> {
    /// Trust domain of the leaves.
    pub trust_domain: &'a TrustDomain,
    /// DNS names that leaves may have, each with all names below it. An empty list stands for all names.
    pub dns_names: &'a [DnsName],
    /// Time for which the issuing CA must be valid from now on: the longest lifetime of a leaf.
    pub min_lifetime: Lifetime,
    /// Root that peers trust already. `None` accepts the root of the import.
    pub trusted_root: Option<&'a CaCertificate>,
}

/// Issuing CA of an import, with its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedCa {
    /// Certificate of the issuing CA.
    pub issuing: CaCertificate,
    /// Intermediate CAs between the issuing CA and the root, in this order.
    pub intermediates: Vec<CaCertificate>,
    /// Root that the import declares.
    pub root: CaCertificate,
}

/// Maximum length of each file, in bytes.
const MAX_FILE_BYTES: usize = 64 * 1024;
/// Maximum number of certificates in `tls.crt`. Java accepts five CAs below the root.
const MAX_CERTIFICATES: usize = 6;
/// Lifetime of the leaf with which an import is tested.
const TEST_LEAF_LIFETIME: Lifetime = Lifetime::from_seconds(60);
/// DNS name of the test leaf if leaves may have all names.
const ANY_NAME: &str = "test.default.svc";

/// Checks an import. `tls` contains the certificate of the issuing CA, and intermediate CAs in any order. `ca` contains the
/// root. `key` is the key of the request.
///
/// # Errors
/// When a check fails. The message names the extension that is wrong, and what to request from the CA's operator.
pub fn check_import(
    tls: &str,
    ca: &str,
    key: &PrivateKey,
    rules: &ImportRules<'_>,
    now: OffsetDateTime,
) -> Result<ImportedCa, ImportError> {
    let (certificates, roots) = (read(ImportFile::Tls, tls)?, read(ImportFile::Ca, ca)?);
    let [root] = roots.as_slice() else { return Err(ImportError::RootCount(roots.len())) };
    if certificates.len() > MAX_CERTIFICATES {
        return Err(ImportError::TooMany(certificates.len()));
    }
    if let Some(trusted) = rules.trusted_root.filter(|trusted| trusted.der() != root) {
        return Err(ImportError::OtherRoot { trusted: trusted.fingerprint() });
    }
    let root = Parsed::new(Tier::Root, ImportFile::Ca, root)?;
    // CAs often send a chain that ends with the root. The root in `ca.crt` is the only one that counts.
    let mut candidates = Vec::new();
    for der in certificates.iter().filter(|der| **der != *root.der()) {
        candidates.push(Parsed::new(Tier::Intermediate, ImportFile::Tls, der)?);
    }
    let position = candidates
        .iter()
        .position(|candidate| key.public_key_matches(candidate.subject_public_key_info()))
        .ok_or(ImportError::OtherKey)?;
    let mut issuing = candidates.remove(position);
    issuing.set_tier(Tier::Issuing);
    // A leaf certificate is the most frequent mistake. It is reported before its chain.
    issuing.check_ca(0)?;
    issuing.check_trust_domain(rules.trust_domain)?;
    let chain = chain(issuing, candidates, root)?;
    check_chain(&chain, rules, now)?;
    let imported = ca_certificates(&chain)?;
    check_test_leaf(&imported, key, rules, now)?;
    Ok(imported)
}

/// Reads the certificates of a file.
fn read(file: ImportFile, pem: &str) -> Result<Vec<CertificateDer<'static>>, ImportError> {
    if pem.len() > MAX_FILE_BYTES {
        return Err(ImportError::TooLarge(file));
    }
    if pem.contains("PRIVATE KEY-----") {
        return Err(ImportError::PrivateKey(file));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(ImportError::NotPem(file)),
    }
}

/// Orders the certificates from the issuing CA to the root. Each certificate of the file must be in the chain.
fn chain<'a>(
    issuing: Parsed<'a>,
    mut candidates: Vec<Parsed<'a>>,
    root: Parsed<'a>,
) -> Result<Vec<Parsed<'a>>, ImportError> {
    root.check_self_signed()?;
    let mut chain = vec![issuing];
    while let Some(last) = chain.last()
        && !root.is_issuer_of(last)
    {
        let position = candidates.iter().position(|candidate| candidate.is_issuer_of(last));
        let Some(position) = position else {
            return Err(ImportError::NoIssuer { of: last.member(), issuer: last.issuer() });
        };
        chain.push(candidates.remove(position));
    }
    if let Some(unused) = candidates.first() {
        return Err(ImportError::Unused(unused.member()));
    }
    chain.push(root);
    Ok(chain)
}

/// Checks each certificate, and each with the certificate of its issuer.
fn check_chain(
    chain: &[Parsed<'_>],
    rules: &ImportRules<'_>,
    now: OffsetDateTime,
) -> Result<(), ImportError> {
    for (cas_below, certificate) in chain.iter().enumerate() {
        certificate.check_ca(cas_below)?;
        certificate.check_name_constraints(rules)?;
        certificate.check_time(now)?;
        if let Some(issuer) = chain.get(cas_below + 1) {
            certificate.check_issuer(issuer)?;
        }
    }
    chain.first().map_or(Ok(()), |issuing| issuing.check_lifetime(rules.min_lifetime, now))
}

fn ca_certificates(chain: &[Parsed<'_>]) -> Result<ImportedCa, ImportError> {
    let mut certificates = chain
        .iter()
        .map(|parsed| CaCertificate::from_der(parsed.tier(), parsed.der().clone().into_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| ImportError::TestLeaf(why.to_string()))?
        .into_iter();
    let (Some(issuing), Some(root)) = (certificates.next(), certificates.next_back()) else {
        return Err(ImportError::OtherKey);
    };
    Ok(ImportedCa { issuing, intermediates: certificates.collect(), root })
}

/// Issues a leaf that is not published, with every name that the policy permits, and verifies its chain up to the root.
fn check_test_leaf(
    imported: &ImportedCa,
    key: &PrivateKey,
    rules: &ImportRules<'_>,
    now: OffsetDateTime,
) -> Result<(), ImportError> {
    let rejected = |why: &dyn std::fmt::Display| ImportError::TestLeaf(why.to_string());
    let any_name = ANY_NAME.parse::<DnsName>().map_err(|why| rejected(&why))?;
    let dns_names = if rules.dns_names.is_empty() { slice::from_ref(&any_name) } else { rules.dns_names };
    let namespace: Namespace = "default".parse().map_err(|why| rejected(&why))?;
    let spiffe_id = SpiffeId::new(rules.trust_domain, &namespace, "proof").map_err(|why| rejected(&why))?;
    let profile = LeafProfile { dns_names, spiffe_id: &spiffe_id, lifetime: TEST_LEAF_LIFETIME };
    let leaf_key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).map_err(|why| rejected(&why))?;
    let issuing = IssuingCa::new(imported.issuing.clone(), key).map_err(|why| rejected(&why))?;
    // The leaf is not published, so its serial number need not be random.
    let leaf = issuing
        .issue(&profile, &leaf_key, Serial::from_random([0; 20]), now)
        .map_err(|why| rejected(&why))?;
    let cas: Vec<_> = slice::from_ref(&imported.issuing)
        .iter()
        .chain(&imported.intermediates)
        .map(|certificate| certificate.der().clone())
        .collect();
    let anchor = webpki::anchor_from_trusted_cert(imported.root.der()).map_err(|why| rejected(&why))?;
    let expected = ExpectedLeaf { dns_names: Some(dns_names), identity: ExpectedIdentity::Id(&spiffe_id) };
    verify_leaf(leaf.der(), &cas, slice::from_ref(&anchor), &leaf_key, &expected, now)
        .map(drop)
        .map_err(|why| rejected(&why))
}
