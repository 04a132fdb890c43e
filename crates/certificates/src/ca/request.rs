//! The certificate signing request of an issuing CA, for a root whose key is outside the cluster.

use certmint_contract::{DnsName, TrustDomain};
use rcgen::{BasicConstraints, CustomExtension, IsCa};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use yasna::{Tag, construct_der};

use super::root::{ca_params, sign_error};
use super::{CaError, KeyIdentifier, Tier, certificate};
use crate::signer::RcgenKey;
use crate::{PrivateKey, Signer, pem};

/// Content of the request for an issuing CA.
#[derive(Clone, Copy, Debug)]
pub struct RequestProfile<'a> {
    /// Trust domain, which is in the subject and in the URI `spiffe://<trust-domain>`.
    pub trust_domain: &'a TrustDomain,
    /// DNS names that leaves may have, each with all names below it. An empty list requests no name constraints.
    pub permitted_dns: &'a [DnsName],
}

/// Object identifier id-ce-subjectKeyIdentifier.
const SUBJECT_KEY_IDENTIFIER: [u64; 4] = [2, 5, 29, 14];
/// Object identifier id-ce-nameConstraints.
const NAME_CONSTRAINTS: [u64; 4] = [2, 5, 29, 30];
/// Tag of `permittedSubtrees` in the name constraints.
const PERMITTED_SUBTREES: u64 = 0;
/// Tag of a DNS name in a GeneralName.
const DNS_NAME: u64 = 2;

/// Returns the request (PKCS#10, as PEM) for an issuing CA with this key.
///
/// The request contains every extension that the certificate of a generated issuing CA has, except the authority key
/// identifier, which only the signer knows. Each key has another subject.
///
/// # Errors
/// When the request cannot be encoded or signed.
pub fn signing_request(profile: &RequestProfile<'_>, key: &PrivateKey) -> Result<String, CaError> {
    let identifier = KeyIdentifier::of(key.public_key());
    let mut params = ca_params(Tier::Issuing, profile.trust_domain, key, &identifier)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let content = construct_der(|writer| writer.write_bytes(identifier.as_bytes()));
    params.custom_extensions = vec![CustomExtension::from_oid_content(&SUBJECT_KEY_IDENTIFIER, content)];
    if !profile.permitted_dns.is_empty() {
        let content = name_constraints(profile.permitted_dns);
        let mut constraints = CustomExtension::from_oid_content(&NAME_CONSTRAINTS, content);
        constraints.set_criticality(true);
        params.custom_extensions.push(constraints);
    }
    let request = params.serialize_request(&RcgenKey(key)).map_err(|why| sign_error(Tier::Issuing, &why))?;
    Ok(pem::encode("CERTIFICATE REQUEST", request.der()))
}

/// Returns the DNS names of the name constraints in a request (PKCS#10, as PEM) for this key. Returns `None` if the text is
/// not such a request.
#[must_use]
pub fn requested_dns(request: &str, key: &PrivateKey) -> Option<Vec<DnsName>> {
    let der = CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).ok()?;
    let (rest, request) = X509CertificationRequest::from_der(&der).ok()?;
    let subject_public_key_info = request.certification_request_info.subject_pki.raw;
    if !rest.is_empty()
        || !key.public_key_matches(subject_public_key_info)
        || request.verify_signature().is_err()
    {
        return None;
    }
    let constraints = request.requested_extensions()?.find_map(|extension| match extension {
        ParsedExtension::NameConstraints(constraints) => Some(constraints),
        _ => None,
    });
    Some(constraints.map(certificate::permitted_dns).unwrap_or_default())
}

/// Returns the DER of the name constraints. rcgen writes name constraints into certificates only.
fn name_constraints(permitted_dns: &[DnsName]) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_tagged_implicit(Tag::context(PERMITTED_SUBTREES), |writer| {
                writer.write_sequence(|writer| {
                    for name in permitted_dns {
                        writer.next().write_sequence(|writer| {
                            writer.next().write_tagged_implicit(Tag::context(DNS_NAME), |writer| {
                                writer.write_ia5_string(name.as_str());
                            });
                        });
                    }
                });
            });
        });
    })
}
