//! The verifier accepts issued bundles and rejects all others.

use certmint_certificates::{ExpectedIdentity, ExpectedLeaf, PrivateKey, VerifyError, verify};
use certmint_contract::{DnsName, KeyAlgorithm, TrustBundle, issuance::Bundle, lifetime::BACKDATE};
use proptest::prelude::*;
use time::Duration;

use crate::fixtures::{Ca, issue, leaf_alone, names, now, service_names, spiffe_id};

fn bundle() -> Bundle {
    issue(&Ca::default().create(), KeyAlgorithm::EcdsaP256, "1h", now()).bundle
}

/// Returns the error of the verification with the expected names and identity.
fn verify_error(bundle: &Bundle) -> VerifyError {
    let names = service_names();
    let id = spiffe_id();
    verify(bundle, &ExpectedLeaf { dns_names: Some(&names), identity: ExpectedIdentity::Id(&id) }, now())
        .unwrap_err()
}

fn with(bundle: &Bundle, change: impl FnOnce(&mut Bundle)) -> Bundle {
    let mut bundle = bundle.clone();
    change(&mut bundle);
    bundle
}

#[test]
fn verification_returns_the_facts_of_the_leaf() {
    let authority = Ca::default().create();
    let at = now();
    for algorithm in KeyAlgorithm::ALL {
        let issued = issue(&authority, algorithm, "1h", at);
        let id = spiffe_id();
        for (dns_names, identity) in [
            (Some(service_names()), ExpectedIdentity::Id(&id)),
            (None, ExpectedIdentity::Path("/ns/shop/sa/payments")),
        ] {
            let expected = ExpectedLeaf { dns_names: dns_names.as_deref(), identity };
            let facts = verify(&issued.bundle, &expected, at).unwrap();
            assert_eq!(facts, issued.facts);
        }
        assert_eq!(issued.facts.dns_names, service_names());
        assert_eq!(issued.facts.spiffe_id, "spiffe://cluster.local/ns/shop/sa/payments");
        assert_eq!((issued.facts.not_before, issued.facts.not_after), (at - BACKDATE, at + Duration::HOUR));
        assert_eq!(issued.facts.serial, crate::fixtures::serial(3).to_string());
    }
}

#[test]
fn the_order_of_the_expected_names_does_not_matter() {
    let (mut names, id) = (service_names(), spiffe_id());
    names.reverse();
    let expected = ExpectedLeaf { dns_names: Some(&names), identity: ExpectedIdentity::Id(&id) };
    verify(&bundle(), &expected, now()).unwrap();
}

#[test]
fn rejects_a_bundle_with_other_names() {
    let verify_error = |names: Vec<DnsName>| {
        let id = spiffe_id();
        let expected = ExpectedLeaf { dns_names: Some(&names), identity: ExpectedIdentity::Id(&id) };
        verify(&bundle(), &expected, now()).unwrap_err().to_string()
    };
    assert_eq!(
        verify_error(names(&["payments.shop.svc"])),
        "the certificate names [payments.shop.svc, payments.shop.svc.cluster.local] instead of \
         [payments.shop.svc]: it has to be reissued"
    );
    assert!(
        verify_error(names(&["a.svc", "payments.shop.svc", "payments.shop.svc.cluster.local"]))
            .contains("a.svc")
    );
    assert!(verify_error(Vec::new()).contains("instead of []"));
}

#[test]
fn rejects_a_bundle_with_another_identity() {
    for path in ["/ns/shop/sa/orders", "/ns/shop/sa/payment", "ns/shop/sa/payments", "", "/"] {
        let expected = ExpectedLeaf { dns_names: None, identity: ExpectedIdentity::Path(path) };
        let error = verify(&bundle(), &expected, now()).unwrap_err();
        assert!(matches!(error, VerifyError::Identity { .. }), "{path}: {error}");
    }
}

#[test]
fn rejects_a_bundle_outside_its_validity_period() {
    let authority = Ca { now: now() - Duration::DAY, ..Ca::default() }.create();
    let (bundle, id) = (issue(&authority, KeyAlgorithm::EcdsaP256, "1h", now()).bundle, spiffe_id());
    let expected = ExpectedLeaf { dns_names: None, identity: ExpectedIdentity::Id(&id) };
    let error = verify(&bundle, &expected, now() + Duration::minutes(61)).unwrap_err();
    assert!(matches!(error, VerifyError::Expired(_)), "{error}");
    let error = verify(&bundle, &expected, now() - Duration::minutes(6)).unwrap_err();
    assert!(matches!(error, VerifyError::NotYetValid(_)), "{error}");
}

#[test]
fn rejects_a_bundle_with_parts_of_another_one() {
    let (one, two) = (bundle(), bundle());
    let error = verify_error(&with(&one, |bundle| bundle.private_key = two.private_key.clone()));
    assert!(matches!(error, VerifyError::KeyDoesNotFit), "{error}");
    let error = verify_error(&with(&one, |bundle| bundle.trust_bundle = two.trust_bundle.clone()));
    assert!(matches!(error, VerifyError::Untrusted(_)), "{error}");
    let error = verify_error(&with(&one, |bundle| bundle.certificate = leaf_alone(&one).into()));
    assert!(matches!(error, VerifyError::Untrusted(_)), "{error}");
    let error = verify_error(&with(&one, |bundle| bundle.certificate = one.trust_bundle.roots.clone()));
    assert!(matches!(error, VerifyError::Malformed { .. } | VerifyError::Usage), "{error}");
}

#[test]
fn the_error_names_an_empty_part() {
    let whole = bundle();
    let error = verify_error(&with(&whole, |bundle| bundle.certificate = String::new()));
    assert!(error.to_string().starts_with("the certificate chain contains no certificate"), "{error}");
    let error = verify_error(&with(&whole, |bundle| bundle.trust_bundle = TrustBundle::first("# none\n")));
    assert!(error.to_string().starts_with("the trust bundle contains no certificate"), "{error}");
    let error = verify_error(&with(&whole, |bundle| bundle.private_key = String::new()));
    assert!(matches!(error, VerifyError::Key(_)), "{error}");
}

#[test]
fn does_not_trust_an_expired_root() {
    let ca = Ca { root_lifetime: "1d".parse().unwrap(), ..Ca::default() };
    let expired = Ca { now: ca.now - Duration::days(3), ..ca }.create();
    let mut bundle = bundle();
    bundle.trust_bundle = expired.trust_bundle().clone();
    let error = verify_error(&bundle);
    assert!(matches!(error, VerifyError::NoValidRoot), "{error}");
    bundle.trust_bundle.roots.push_str(&self::bundle().trust_bundle.roots);
    assert!(matches!(verify_error(&bundle), VerifyError::Untrusted(_)));
}

#[test]
fn accepts_a_second_root_in_the_bundle() {
    let (mut bundle, id) = (bundle(), spiffe_id());
    bundle.trust_bundle.roots.insert_str(0, &self::bundle().trust_bundle.roots);
    verify(&bundle, &ExpectedLeaf { dns_names: None, identity: ExpectedIdentity::Id(&id) }, now()).unwrap();
}

proptest! {
    #[test]
    fn rejects_a_certificate_with_a_changed_octet(position: prop::sample::Index, change in 1_u8..) {
        let mut bundle = bundle();
        let der = pem_body(&bundle.certificate);
        let mut changed = der.clone();
        changed[position.index(der.len())] ^= change;
        let rest = bundle.certificate.split_inclusive("-----END CERTIFICATE-----\n").nth(1).unwrap().to_owned();
        bundle.certificate = pem_of(&changed) + &rest;
        verify_error(&bundle);
    }

    #[test]
    fn rejects_random_texts_without_panicking(certificate: String, private_key: String, roots: String) {
        verify_error(&Bundle { certificate, private_key, trust_bundle: TrustBundle::first(roots) });
        prop_assert!(PrivateKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_err());
    }
}

/// Returns the octets of the first certificate in a PEM text.
fn pem_body(pem: &str) -> Vec<u8> {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn pem_of(der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}
