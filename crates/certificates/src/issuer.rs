//! Who signs: a key, and the name of its certificate, copied octet by octet.
//!
//! rcgen keeps a name as a map. Of two organizational units or domain components one would be lost, and a chain in
//! which the names differ by an octet is none (RFC 5280 7.1). So rcgen writes a certificate under an empty name and
//! without a signature; here the issuer's own name takes that place, and the whole is signed.

use crate::{CaCertificate, Signer, signer::RcgenKey};
use rcgen::{
    CertificateParams, DistinguishedName, Issuer, KeyIdMethod, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::CertificateDer;
use yasna::{ASN1Result, construct_der, parse_der};

/// Signs certificates in the name of a CA.
pub(crate) struct NamedIssuer<S> {
    /// The DER of the CA's subject.
    name: Vec<u8>,
    unnamed: Issuer<'static, PlaceholderKey<S>>,
}

/// Where the issuer stands in a TBSCertificate: after version, serial number and signature algorithm.
const ISSUER_FIELD: usize = 3;

impl<S: Signer> NamedIssuer<S> {
    /// In the name of that CA, whose key the signer has.
    pub(crate) fn new(certificate: &CaCertificate, signer: S) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let identifier = certificate.key_identifier().as_bytes().to_vec();
        params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
        let unnamed = Issuer::new(params, PlaceholderKey(RcgenKey(signer)));
        Self { name: certificate.subject().to_vec(), unnamed }
    }

    /// Signs a certificate for that key.
    pub(crate) fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let unsigned = params.signed_by(key, &self.unnamed)?;
        let (to_be_signed, algorithm) =
            self.named(unsigned.der()).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let signature = self.unnamed.key().0.sign(&to_be_signed)?;
        let der = construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&to_be_signed);
                writer.next().write_der(&algorithm);
                writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(der.into())
    }

    /// The signer.
    pub(crate) fn signer(&self) -> &S {
        &self.unnamed.key().0.0
    }

    /// What is to be signed, under our own name, and the signature's algorithm.
    fn named(&self, unsigned: &[u8]) -> ASN1Result<(Vec<u8>, Vec<u8>)> {
        let (to_be_signed, algorithm) = parse_der(unsigned, |reader| {
            reader.read_sequence(|reader| {
                let to_be_signed = reader.next().read_der()?;
                let algorithm = reader.next().read_der()?;
                reader.next().read_der()?;
                Ok((to_be_signed, algorithm))
            })
        })?;
        let fields = parse_der(&to_be_signed, |reader| reader.collect_sequence_of(|field| field.read_der()))?;
        let named = construct_der(|writer| {
            writer.write_sequence(|writer| {
                for (position, field) in fields.iter().enumerate() {
                    writer.next().write_der(if position == ISSUER_FIELD { &self.name } else { field });
                }
            });
        });
        Ok((named, algorithm))
    }
}

/// What lets rcgen write a certificate whose signature is still to come.
struct PlaceholderKey<S>(RcgenKey<S>);

impl<S: Signer> PublicKeyData for PlaceholderKey<S> {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl<S: Signer> SigningKey for PlaceholderKey<S> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}
