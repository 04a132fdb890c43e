//! CAs are checked completely when they are parsed, and no certificate ends after its issuer.

use std::process::Command;
use std::sync::Arc;

use certmint_certificates::{
    Authority, AuthorityPem, CaError, IssueError, IssuingProfile, LeafProfile, PrivateKey, RootCa,
    RootProfile, Tier, VerifyError,
};
use certmint_contract::{KeyAlgorithm, lifetime::BACKDATE};
use time::Duration;

use crate::fixtures::{
    Ca, Files, issue, leaf_alone, names, now, output_text, serial, service_names, spiffe_id, trust_domain,
};

#[test]
fn parsing_a_ca_returns_the_created_one() {
    for algorithm in KeyAlgorithm::ALL {
        let created = Ca { algorithm, ..Ca::default() }.create();
        let read = Authority::from_pem(&created.to_pem().unwrap(), now()).unwrap();
        assert_eq!(read.root().certificate(), created.root().certificate());
        assert_eq!(read.issuing().certificate(), created.issuing().certificate());
        assert_eq!(read.issuing().certificate().permitted_dns(), names(&["svc", "svc.cluster.local"]));
        issue(&read, KeyAlgorithm::EcdsaP256, "24h", now());
    }
}

#[test]
fn rejects_a_damaged_ca() {
    let (one, two) = (pem(&Ca::default()), pem(&Ca::default()));
    let parse_damaged = |damage: &dyn Fn(&mut AuthorityPem)| {
        let mut pem = one.clone();
        damage(&mut pem);
        Authority::from_pem(&pem, now()).unwrap_err()
    };
    let error = parse_damaged(&|pem| pem.root.certificate.clear());
    assert!(matches!(error, CaError::NotPem(Tier::Root)), "{error}");
    let error = parse_damaged(&|pem| pem.root.certificate += &two.root.certificate);
    assert!(matches!(error, CaError::NotPem(Tier::Root)), "{error}");
    let error = parse_damaged(&|pem| *pem.issuing.private_key = "nothing".into());
    assert!(matches!(error, CaError::Key { tier: Tier::Issuing, .. }), "{error}");
    let error = parse_damaged(&|pem| pem.root.private_key.clone_from(&two.root.private_key));
    assert!(matches!(error, CaError::KeyDoesNotFit(Tier::Root)), "{error}");
    let error = parse_damaged(&|pem| pem.issuing.private_key.clone_from(&two.issuing.private_key));
    assert!(matches!(error, CaError::KeyDoesNotFit(Tier::Issuing)), "{error}");
    let error = parse_damaged(&|pem| pem.issuing = two.issuing.clone());
    assert!(matches!(error, CaError::NotChained(_)), "{error}");
    let error = parse_damaged(&|pem| pem.issuing = pem.root.clone());
    assert!(matches!(error, CaError::NotChained(_)), "{error}");
}

#[test]
fn rejects_an_issuing_ca_as_root() {
    let issuing = pem(&Ca::default()).issuing;
    let error = RootCa::from_pem(&issuing.certificate, &issuing.private_key, now()).unwrap_err();
    assert!(matches!(error, CaError::NotSelfSigned(_)), "{error}");
}

#[test]
fn rejects_an_issuing_ca_that_ends_after_its_root() {
    let (trust_domain, key) = (trust_domain(), PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap());
    // Two roots with the same key and name, and different ends.
    let root = |lifetime: &str| {
        let profile = RootProfile { trust_domain: &trust_domain, lifetime: lifetime.parse().unwrap() };
        let key = PrivateKey::from_pem(&key.to_pem().unwrap()).unwrap();
        RootCa::create(&profile, key, serial(1), now()).unwrap()
    };
    let profile =
        IssuingProfile { trust_domain: &trust_domain, lifetime: "90d".parse().unwrap(), permitted_dns: &[] };
    let issuing_key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let issuing = root("365d").sign_issuing(&profile, issuing_key, serial(2), now()).unwrap();
    let error = Authority::new(root("30d").into(), issuing).unwrap_err();
    assert!(matches!(error, CaError::OutlivesRoot { .. }), "{error}");
}

#[test]
fn an_expired_root_does_not_sign() {
    let ca = Ca { root_lifetime: "10d".parse().unwrap(), ..Ca::default() };
    let (trust_domain, authority) = (trust_domain(), ca.create());
    let profile =
        IssuingProfile { trust_domain: &trust_domain, lifetime: "90d".parse().unwrap(), permitted_dns: &[] };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let error = Authority::with_new_issuing(
        Arc::clone(authority.root()),
        &profile,
        key,
        serial(2),
        ca.now + Duration::days(11),
    )
    .unwrap_err();
    assert!(matches!(error, CaError::Expired { tier: Tier::Root, .. }), "{error}");
}

#[test]
fn rejects_a_leaf_as_issuing_ca() {
    let authority = Ca::default().create();
    let issued = issue(&authority, KeyAlgorithm::EcdsaP256, "24h", now());
    let mut pem = authority.to_pem().unwrap();
    pem.issuing.certificate = leaf_alone(&issued.bundle).into();
    pem.issuing.private_key = issued.bundle.private_key.clone().into();
    let error = Authority::from_pem(&pem, now()).unwrap_err();
    assert!(matches!(error, CaError::NotACa(Tier::Issuing)), "{error}");
}

#[test]
fn rejects_a_changed_certificate() {
    let authority = Ca::default().create();
    let mut pem = authority.to_pem().unwrap();
    // These characters are part of the signature.
    let end = pem.issuing.certificate.find("\n-----END").unwrap() - 8;
    let replacement = if pem.issuing.certificate[end..].starts_with("AAAA") { "BBBB" } else { "AAAA" };
    pem.issuing.certificate.replace_range(end..end + 4, replacement);
    let error = Authority::from_pem(&pem, now()).unwrap_err();
    assert!(matches!(error, CaError::NotChained(_)), "{error}");
}

#[test]
fn rejects_a_ca_outside_its_validity_period() {
    let ca = Ca {
        root_lifetime: "10d".parse().unwrap(),
        issuing_lifetime: "1d".parse().unwrap(),
        ..Ca::default()
    };
    let (authority, pem) = (ca.create(), pem(&ca));
    let error = |after| Authority::from_pem(&pem, ca.now + after).unwrap_err();
    assert!(matches!(error(-Duration::HOUR), CaError::NotYetValid { tier: Tier::Root, .. }));
    assert!(matches!(error(Duration::days(2)), CaError::Expired { tier: Tier::Issuing, .. }));
    assert!(matches!(error(Duration::days(11)), CaError::Expired { tier: Tier::Root, .. }));

    let (dns_names, spiffe_id) = (service_names(), spiffe_id());
    let profile =
        LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime: "1h".parse().unwrap() };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let error = authority.issue(&profile, &key, serial(3), ca.now + Duration::days(2)).unwrap_err();
    assert!(matches!(error, IssueError::Ca(CaError::Expired { tier: Tier::Issuing, .. })), "{error}");
}

#[test]
fn no_certificate_ends_after_its_issuer() {
    let ca = Ca { root_lifetime: "2d".parse().unwrap(), ..Ca::default() };
    let authority = ca.create();
    let issuing = authority.issuing().certificate();
    assert_eq!(issuing.not_after(), authority.root().certificate().not_after());
    let leaf = issue(&authority, KeyAlgorithm::EcdsaP256, "30d", ca.now);
    assert_eq!(leaf.facts.not_after, issuing.not_after());
    assert_eq!(leaf.facts.not_before, ca.now - BACKDATE);
    assert_eq!(leaf.facts.issuer, issuing.key_identifier().to_string());
}

#[test]
fn does_not_issue_a_name_outside_the_constraints() {
    let authority = Ca { permitted: names(&["elsewhere"]), ..Ca::default() }.create();
    let (dns_names, spiffe_id) = (service_names(), spiffe_id());
    let profile =
        LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime: "1h".parse().unwrap() };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let error = authority.issue(&profile, &key, serial(3), now()).unwrap_err();
    assert!(matches!(error, IssueError::Unverifiable(VerifyError::Untrusted(_))), "{error}");
    assert!(error.to_string().contains("NameConstraintViolation"), "{error}");
}

#[test]
fn rotation_keeps_the_root_and_changes_the_issuing_ca() {
    let before = Ca::default().create();
    let (trust_domain, permitted) = (trust_domain(), names(&["svc"]));
    let profile = IssuingProfile {
        trust_domain: &trust_domain,
        lifetime: "90d".parse().unwrap(),
        permitted_dns: &permitted,
    };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let after =
        Authority::with_new_issuing(Arc::clone(before.root()), &profile, key, serial(9), now()).unwrap();
    assert_eq!(after.trust_bundle(), before.trust_bundle());
    assert_ne!(
        after.issuing().certificate().key_identifier(),
        before.issuing().certificate().key_identifier()
    );
    assert_eq!(after.issuing().certificate().permitted_dns(), permitted);
    let (pem_before, pem_after) = (before.to_pem().unwrap(), after.to_pem().unwrap());
    assert_eq!(*pem_before.root.private_key, *pem_after.root.private_key);
}

#[test]
fn debug_output_contains_no_key() {
    let authority = Ca::default().create();
    let pem = authority.to_pem().unwrap();
    let shown = format!("{authority:?} {pem:?} {:?}", PrivateKey::generate(KeyAlgorithm::Rsa2048));
    for key in [&pem.root.private_key, &pem.issuing.private_key] {
        assert!(key.lines().filter(|line| !line.starts_with("-----")).all(|line| !shown.contains(line)));
    }
    assert!(!shown.contains("PRIVATE KEY-----"));
}

fn pem(ca: &Ca) -> AuthorityPem {
    ca.create().to_pem().unwrap()
}

/// Creates a root with OpenSSL, as a company may do, and an issuing CA that this root signs.
fn with_company_root(test: &str, subject: &str, extension: &str) -> Result<Authority, CaError> {
    let directory = Files::directory_of(test);
    let path = |file: &str| directory.join(file).to_str().unwrap().to_owned();
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    ]);
    command.args([
        "-utf8",
        "-subj",
        subject,
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-addext",
        extension,
    ]);
    command.args(["-keyout", &path("root.key"), "-out", &path("root.crt")]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", output_text(&output));
    let read = |file: &str| std::fs::read_to_string(path(file)).unwrap();
    let root = RootCa::from_pem(&read("root.crt"), &read("root.key"), now())?;
    let (trust_domain, permitted) = (trust_domain(), names(&["svc", "svc.cluster.local"]));
    let profile = IssuingProfile {
        trust_domain: &trust_domain,
        lifetime: "20d".parse().unwrap(),
        permitted_dns: &permitted,
    };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    Authority::with_new_issuing(root.into(), &profile, key, serial(2), now())
}

#[test]
fn copies_the_name_of_a_company_root_exactly() {
    for (test, subject) in [
        ("repeated-component", "/DC=corp/DC=example/O=Example/CN=Example Root"),
        ("two-units", "/O=Example/OU=Security/OU=Public Keys/CN=Example Root"),
        ("several-in-one", "/O=Example/CN=Example Root+UID=17"),
        ("not-ascii", "/C=DE/O=B\u{fc}cher/OU=B\u{fc}cher/emailAddress=pki@example.com"),
    ] {
        let authority = with_company_root(test, subject, "certificatePolicies=1.2.3.4").unwrap();
        let files = Files::write(test, &issue(&authority, KeyAlgorithm::EcdsaP256, "24h", now()));
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile"])
            .arg(files.path("ca.crt"))
            .arg("-untrusted")
            .args([files.path("tls.crt"), files.path("tls.crt")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{test}: {}", output_text(&output));
    }
}

#[test]
fn discards_an_issuing_ca_whose_leaves_fail_verification() {
    let constraint = "nameConstraints=critical,permitted;DNS:corp.example.com";
    let error = with_company_root("constrained-root", "/CN=Example Root", constraint).unwrap_err();
    assert!(matches!(error, CaError::TestLeafRejected(_)), "{error}");
    assert!(error.to_string().contains("name constraints"), "{error}");
}
