//! Private keys of certificates.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RsaKeyPair,
};
use certmint_contract::KeyAlgorithm;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

/// Private key. The crypto library holds the key, and wipes the key's memory on drop. `Debug` shows the algorithm only.
pub struct PrivateKey {
    algorithm: KeyAlgorithm,
    pair: SigningKeyPair,
}

/// Error for a key that is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text contains no `PRIVATE KEY` block.
    #[error("the PEM text contains no PKCS#8 private key: it must have a \"BEGIN PRIVATE KEY\" block")]
    NotPem,
    /// The key has an algorithm that is not in [`KeyAlgorithm`].
    #[error("unsupported private key type: use ECDSA P-256 or P-384, Ed25519, or RSA 2048, 3072 or 4096")]
    Unsupported,
    /// The crypto library failed.
    #[error("the crypto library failed with a key of type {0}; if it happens again, report it")]
    Crypto(KeyAlgorithm),
}

/// Key pair of the crypto library.
pub(crate) enum SigningKeyPair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl PrivateKey {
    /// Generates a key with the random generator of the crypto library.
    ///
    /// # Errors
    /// When the crypto library fails. Its generator does not fail on a healthy machine.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let pair = match algorithm {
            KeyAlgorithm::EcdsaP256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(SigningKeyPair::Ecdsa)
            }
            KeyAlgorithm::EcdsaP384 => {
                EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map(SigningKeyPair::Ecdsa)
            }
            KeyAlgorithm::Ed25519 => Ed25519KeyPair::generate().map(SigningKeyPair::Ed25519),
            KeyAlgorithm::Rsa2048 => RsaKeyPair::generate(KeySize::Rsa2048).map(SigningKeyPair::Rsa),
            KeyAlgorithm::Rsa3072 => RsaKeyPair::generate(KeySize::Rsa3072).map(SigningKeyPair::Rsa),
            KeyAlgorithm::Rsa4096 => RsaKeyPair::generate(KeySize::Rsa4096).map(SigningKeyPair::Rsa),
        };
        let pair = pair.map_err(|Unspecified| KeyError::Crypto(algorithm))?;
        Ok(Self { algorithm, pair })
    }

    /// Parses the first PKCS#8 key in a PEM text.
    ///
    /// # Errors
    /// When the text contains no key, or its algorithm is not supported.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotPem)?;
        Self::from_pkcs8(Zeroizing::new(der).secret_pkcs8_der())
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let ecdsa = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der).map(SigningKeyPair::Ecdsa);
        if let Ok(pair) = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING) {
            return Ok(Self { algorithm: KeyAlgorithm::EcdsaP256, pair });
        }
        if let Ok(pair) = ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING) {
            return Ok(Self { algorithm: KeyAlgorithm::EcdsaP384, pair });
        }
        // OpenSSL writes Ed25519 keys without the public key. This function accepts such keys.
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self { algorithm: KeyAlgorithm::Ed25519, pair: SigningKeyPair::Ed25519(pair) });
        }
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError::Unsupported)?;
        let algorithm = match pair.public_modulus_len() {
            256 => KeyAlgorithm::Rsa2048,
            384 => KeyAlgorithm::Rsa3072,
            512 => KeyAlgorithm::Rsa4096,
            _ => return Err(KeyError::Unsupported),
        };
        Ok(Self { algorithm, pair: SigningKeyPair::Rsa(pair) })
    }

    /// Returns the algorithm of the key.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Returns whether the key belongs to `subject_public_key_info`, which is DER.
    #[must_use]
    pub fn public_key_matches(&self, subject_public_key_info: &[u8]) -> bool {
        let spki: Result<PublicKeyX509Der<'_>, Unspecified> = match &self.pair {
            SigningKeyPair::Ecdsa(pair) => pair.public_key().as_der(),
            SigningKeyPair::Ed25519(pair) => pair.public_key().as_der(),
            SigningKeyPair::Rsa(pair) => pair.public_key().as_der(),
        };
        spki.is_ok_and(|spki| spki.as_ref() == subject_public_key_info)
    }
}

#[cfg(feature = "issue")]
impl PrivateKey {
    /// Returns the key as PKCS#8 in PEM. The PKCS#8 version is 1, because older versions of OpenSSL read only that for
    /// Ed25519.
    ///
    /// # Errors
    /// When the crypto library cannot encode the key.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        use aws_lc_rs::encoding::Pkcs8V1Der;
        let failed = |Unspecified| KeyError::Crypto(self.algorithm);
        let pem = |der: &[u8]| Zeroizing::new(crate::pem::encode("PRIVATE KEY", der));
        match &self.pair {
            SigningKeyPair::Ecdsa(pair) => pair.to_pkcs8v1().map(|der| pem(der.as_ref())).map_err(failed),
            SigningKeyPair::Ed25519(pair) => pair.to_pkcs8v1().map(|der| pem(der.as_ref())).map_err(failed),
            SigningKeyPair::Rsa(pair) => {
                let der: Result<Pkcs8V1Der<'_>, Unspecified> = pair.as_der();
                der.map(|der| pem(der.as_ref())).map_err(failed)
            }
        }
    }

    pub(crate) fn pair(&self) -> &SigningKeyPair {
        &self.pair
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
