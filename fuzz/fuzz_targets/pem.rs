//! Fuzz target for PEM from Secrets and ConfigMaps, which other programs may write: keys, chains, roots, and the CA.
//!
//! The input has up to three parts, separated by blank lines. The whole input replaces each missing part.

#![no_main]

use certmint_certificates::{CaCertificate, ExpectedIdentity, ExpectedLeaf, PrivateKey, Tier, verify};
use certmint_contract::TrustBundle;
use certmint_contract::issuance::Bundle;
use certmint_fetch::trust::TrustAnchors;
use libfuzzer_sys::fuzz_target;
use time::OffsetDateTime;

fuzz_target!(|text: &str| {
    let now = OffsetDateTime::UNIX_EPOCH;
    let mut parts = text.splitn(3, "\n\n");
    let mut part = || parts.next().unwrap_or(text);
    let (certificate, private_key, roots) = (part(), part(), part());

    if let Ok(key) = PrivateKey::from_pem(private_key) {
        let written = key.to_pem().expect("a key that was read can be written");
        let again = PrivateKey::from_pem(&written).expect("a key that was written can be read");
        assert_eq!(again.algorithm(), key.algorithm());
    }
    if let Ok(anchors) = TrustAnchors::new(TrustBundle::first(roots), "the input") {
        assert!(anchors.include(&anchors) && anchors.roots().count() > 0);
    }
    for tier in [Tier::Root, Tier::Issuing] {
        if let Ok(ca) = CaCertificate::from_pem(tier, certificate) {
            let again = CaCertificate::from_pem(tier, ca.pem())
                .expect("a certificate that was read can be read again");
            assert_eq!(again.der(), ca.der());
        }
    }
    let key_pair = certmint_server::ServingKeyPair::default();
    if key_pair.replace(certificate.as_bytes(), private_key.as_bytes()).is_ok() {
        assert!(key_pair.not_after().is_some());
    }
    let bundle = Bundle {
        certificate: certificate.into(),
        private_key: private_key.into(),
        trust_bundle: TrustBundle::first(roots),
    };
    let expected = ExpectedLeaf { dns_names: None, identity: ExpectedIdentity::Path("/ns/shop/sa/payments") };
    // The tests of the verifier check the result. Here the verifier must return, and the length of its error must be
    // limited.
    if let Err(error) = verify(&bundle, &expected, now) {
        assert!(error.to_string().len() <= text.len() * 4 + 1024, "{error}");
    }
});
