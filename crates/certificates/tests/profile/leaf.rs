//! The fields of leaves and CA certificates.

use std::collections::BTreeSet;

use certmint_certificates::{
    CaCertificate, ExpectedIdentity, ExpectedLeaf, IssuingCa, LeafProfile, PrivateKey, Signer, SignerError,
    Tier, verify,
};
use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, lifetime::BACKDATE};
use proptest::prelude::*;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::Duration;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, X509Extension},
    oid_registry as oid,
    prelude::FromDer,
};

use crate::fixtures::{Ca, issue, leaf_alone, names, now, serial, service_names, spiffe_id};

/// Object identifier id-ce-noRevAvail, as DER.
const NO_REV_AVAIL: &[u8] = &[0x55, 0x1d, 0x38];

#[test]
fn a_leaf_has_exactly_the_fields_of_the_profile() {
    let authority = Ca::default().create();
    let issued = issue(&authority, KeyAlgorithm::EcdsaP256, "24h", now());
    with_certificate(leaf_alone(&issued.bundle), |leaf| {
        assert_eq!(leaf.subject().iter_rdn().count(), 0);
        assert_eq!(leaf.raw_serial(), serial(3).as_bytes());
        assert!(leaf.basic_constraints().unwrap().is_none());
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.flags == 1, "{usage:?}");
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth && !usage.any && usage.other.is_empty());
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical);
        let uris = names.value.general_names.iter().filter(|name| matches!(name, GeneralName::URI(_)));
        assert_eq!(uris.count(), 1);
        let no_rev_avail = extension(leaf, NO_REV_AVAIL).unwrap();
        assert!(!no_rev_avail.critical && no_rev_avail.value == [5, 0]);
        assert_eq!(leaf.extensions().len(), 5, "authority key id, names, two usages, noRevAvail");
    });
}

#[test]
fn both_cas_have_the_fields_of_a_ca() {
    let authority = Ca::default().create();
    for (pem, path_length) in
        [(authority.root().certificate().pem(), None), (authority.issuing().certificate().pem(), Some(0))]
    {
        with_certificate(pem, |ca| {
            let constraints = ca.basic_constraints().unwrap().unwrap();
            assert!(constraints.critical && constraints.value.ca);
            assert_eq!(constraints.value.path_len_constraint, path_length);
            let usage = ca.key_usage().unwrap().unwrap();
            assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
            assert_eq!(usage.value.flags.count_ones(), 2);
            let names = &ca.subject_alternative_name().unwrap().unwrap().value.general_names;
            assert_eq!(*names, [GeneralName::URI("spiffe://cluster.local")]);
            assert!(extension(ca, NO_REV_AVAIL).is_none());
            assert!(extension(ca, oid::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER.as_bytes()).is_some());
        });
    }
    with_certificate(authority.issuing().certificate().pem(), |issuing| {
        assert!(issuing.name_constraints().unwrap().unwrap().critical);
    });
}

#[test]
fn two_cas_of_a_trust_domain_have_different_names() {
    let (one, two) = (Ca::default().create(), Ca::default().create());
    with_certificate(one.root().certificate().pem(), |root| {
        with_certificate(one.issuing().certificate().pem(), |issuing| {
            assert_ne!(root.subject().as_raw(), issuing.subject().as_raw());
        });
    });
    assert_ne!(one.root().certificate().fingerprint(), two.root().certificate().fingerprint());
}

#[test]
fn a_key_outside_the_process_signs_a_leaf() {
    struct ExternalKey(PrivateKey);
    impl Signer for ExternalKey {
        fn algorithm(&self) -> KeyAlgorithm {
            self.0.algorithm()
        }
        fn public_key(&self) -> &[u8] {
            self.0.public_key()
        }
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
            self.0.sign(message)
        }
    }
    let authority = Ca::default().create();
    let pem = authority.to_pem().unwrap().issuing;
    let certificate = CaCertificate::from_pem(Tier::Issuing, &pem.certificate).unwrap();
    let key = PrivateKey::from_pem(&pem.private_key).unwrap();
    let issuing = IssuingCa::new(certificate.clone(), ExternalKey(key)).unwrap();

    let (dns_names, spiffe_id) = (service_names(), spiffe_id());
    let profile =
        LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime: Lifetime::from_seconds(60) };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let leaf = issuing.issue(&profile, &key, serial(3), now()).unwrap();
    let mut bundle = issue(&authority, KeyAlgorithm::EcdsaP256, "1h", now()).bundle;
    bundle.certificate = leaf.chain_pem().into();
    bundle.private_key = key.to_pem().unwrap().to_string();
    let expected = ExpectedLeaf { dns_names: Some(&dns_names), identity: ExpectedIdentity::Id(&spiffe_id) };
    verify(&bundle, &expected, now()).unwrap();

    let another = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    assert!(IssuingCa::new(certificate, ExternalKey(another)).is_err());
}

fn any_names() -> impl Strategy<Value = Vec<DnsName>> {
    let label = "[a-z]([a-z0-9-]{0,20}[a-z0-9])?";
    let host = prop::collection::vec(label, 1..4).prop_map(|labels| labels.join("."));
    let suffix = prop::sample::select(vec!["svc", "svc.cluster.local"]);
    let name = (host, suffix).prop_map(|(host, suffix)| format!("{host}.{suffix}"));
    prop::collection::btree_set(name, 0..60)
        .prop_map(|names: BTreeSet<String>| names.iter().map(|name| name.parse().unwrap()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_leaf_verifies_and_ends_with_its_issuer(
        dns_names in any_names(),
        seconds in 1_u32..20_000_000,
        octets: [u8; 20],
        fraction in 0_u32..1_000_000_000,
    ) {
        let authority = Ca::default().create();
        let (id, at) = (spiffe_id(), now());
        let profile =
            LeafProfile { dns_names: &dns_names, spiffe_id: &id, lifetime: Lifetime::from_seconds(seconds) };
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let serial = certmint_certificates::Serial::from_random(octets);
        let moment = at.replace_nanosecond(fraction).unwrap();
        let issued = authority.issue(&profile, &key, serial, moment).unwrap();
        let expected = ExpectedLeaf { dns_names: Some(&dns_names), identity: ExpectedIdentity::Id(&id) };
        prop_assert_eq!(&verify(&issued.bundle, &expected, moment).unwrap(), &issued.facts);

        let ends = at + Duration::seconds(seconds.into());
        prop_assert_eq!(issued.facts.not_before, at - BACKDATE);
        prop_assert_eq!(issued.facts.not_after, ends.min(authority.issuing().certificate().not_after()));
        prop_assert_eq!(issued.facts.serial, serial.to_string());
        let short = with_certificate(leaf_alone(&issued.bundle), |leaf| extension(leaf, NO_REV_AVAIL).is_some());
        prop_assert_eq!(short, seconds <= 86_400);
    }

    #[test]
    fn never_issues_a_name_outside_the_constraints(mut dns_names in any_names(), foreign in "[a-z]{1,9}(\\.[a-z]{2,9}){1,3}") {
        prop_assume!(!foreign.ends_with(".svc") && !foreign.ends_with(".svc.cluster.local"));
        dns_names.extend(names(&[&foreign]));
        let id = spiffe_id();
        let profile =
            LeafProfile { dns_names: &dns_names, spiffe_id: &id, lifetime: Lifetime::from_seconds(60) };
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        prop_assert!(Ca::default().create().issue(&profile, &key, serial(3), now()).is_err());
    }
}

fn extension<'a>(certificate: &'a X509Certificate<'_>, id: &[u8]) -> Option<&'a X509Extension<'a>> {
    certificate.extensions().iter().find(|extension| extension.oid.as_bytes() == id)
}

fn with_certificate<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    read(&X509Certificate::from_der(&der).unwrap().1)
}
