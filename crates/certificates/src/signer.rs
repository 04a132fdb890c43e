//! The interface to the key of a CA, which may be in the memory of the process, in an HSM or in a KMS.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256};
use certmint_contract::KeyAlgorithm;
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm, SigningKey,
};

use crate::key::{PrivateKey, SigningKeyPair};

/// Signer with the key of a CA.
pub trait Signer: Send + Sync {
    /// Returns the algorithm of the key. The algorithm determines the hash: SHA-256 for P-256 and RSA (PKCS#1 v1.5),
    /// SHA-384 for P-384.
    fn algorithm(&self) -> KeyAlgorithm;

    /// Returns the content of `subjectPublicKey`: an uncompressed point, 32 octets of Ed25519, or an RSAPublicKey.
    fn public_key(&self) -> &[u8];

    /// Signs a message. Returns the content of `signatureValue`; for ECDSA, that is an `Ecdsa-Sig-Value`.
    ///
    /// # Errors
    /// When the key cannot be used now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// Error of a key that could not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the CA's key could not sign: {0}; check that the holder of the key can be reached")]
pub struct SignerError(pub String);

/// Signer in the form that rcgen uses.
pub(crate) struct RcgenKey<S>(pub(crate) S);

impl Signer for PrivateKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm()
    }

    fn public_key(&self) -> &[u8] {
        match self.pair() {
            SigningKeyPair::Ecdsa(pair) => pair.public_key().as_ref(),
            SigningKeyPair::Ed25519(pair) => pair.public_key().as_ref(),
            SigningKeyPair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let random = SystemRandom::new();
        let signature = match self.pair() {
            SigningKeyPair::Ecdsa(pair) => {
                pair.sign(&random, message).map(|signature| signature.as_ref().to_vec())
            }
            SigningKeyPair::Ed25519(pair) => {
                pair.try_sign(message).map(|signature| signature.as_ref().to_vec())
            }
            SigningKeyPair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
            }
        };
        signature.map_err(|_| SignerError("the crypto library failed".into()))
    }
}

impl<S: Signer + ?Sized> Signer for &S {
    fn algorithm(&self) -> KeyAlgorithm {
        (**self).algorithm()
    }

    fn public_key(&self) -> &[u8] {
        (**self).public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        (**self).sign(message)
    }
}

impl<S: Signer> PublicKeyData for RcgenKey<S> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.algorithm() {
            KeyAlgorithm::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::EcdsaP384 => &PKCS_ECDSA_P384_SHA384,
            KeyAlgorithm::Ed25519 => &PKCS_ED25519,
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => &PKCS_RSA_SHA256,
        }
    }
}

impl<S: Signer> SigningKey for RcgenKey<S> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // rcgen's error cannot contain the cause. `RemoteKeyError` is its variant for keys outside the process.
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
