//! The issuer of certificates: the key of a CA, and the subject of the CA's certificate, copied octet by octet.
//!
//! rcgen stores a name as a map, so it would lose one of two organizational units or domain components. A chain is not
//! valid if the names differ in one octet (RFC 5280 7.1). So rcgen writes a certificate with an empty issuer name and
//! without a signature. This module inserts the name and signs the result.

use rcgen::{
    CertificateParams, DistinguishedName, Issuer, KeyIdMethod, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::CertificateDer;
use yasna::{ASN1Result, construct_der, parse_der};

use crate::signer::RcgenKey;
use crate::{CaCertificate, Signer};

/// Issuer that signs certificates in the name of a CA.
pub(crate) struct NamedIssuer<S> {
    /// Subject of the CA's certificate, as DER.
    name: Vec<u8>,
    /// rcgen's issuer, with an empty name and a key that writes empty signatures.
    unnamed: Issuer<'static, PlaceholderKey<S>>,
}

/// Position of the issuer in a TBSCertificate: after version, serial number and signature algorithm.
const ISSUER_FIELD: usize = 3;

impl<S: Signer> NamedIssuer<S> {
    /// Creates an issuer in the name of a CA. `signer` has the key of that CA.
    pub(crate) fn new(certificate: &CaCertificate, signer: S) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let identifier = certificate.key_identifier().as_bytes().to_vec();
        params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
        let unnamed = Issuer::new(params, PlaceholderKey(RcgenKey(signer)));
        Self { name: certificate.subject().to_vec(), unnamed }
    }

    /// Signs a certificate for `key`.
    pub(crate) fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let unsigned = params.signed_by(key, &self.unnamed)?;
        let (to_be_signed, algorithm) =
            self.insert_name(unsigned.der()).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
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

    /// Returns the signer.
    pub(crate) fn signer(&self) -> &S {
        &self.unnamed.key().0.0
    }

    /// Returns the TBSCertificate of an unsigned certificate with the issuer's name inserted, and the signature algorithm.
    fn insert_name(&self, unsigned: &[u8]) -> ASN1Result<(Vec<u8>, Vec<u8>)> {
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

/// Key with which rcgen writes an empty signature.
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
