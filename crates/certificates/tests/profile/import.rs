//! Imports of an issuing CA that a company's CA signed, and the messages of wrong imports.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use certmint_certificates::ca::{
    ImportError, ImportRules, ImportedCa, RequestProfile, check_import, requested_dns, signing_request,
};
use certmint_certificates::{
    Authority, CaCertificate, CaError, IssuingCa, IssuingProfile, LeafProfile, PrivateKey, RootCa, Tier,
};
use certmint_contract::KeyAlgorithm;
use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

use crate::company::{Company, INTERMEDIATE, ISSUING, KeyType, ROOT, openssl, request};
use crate::fixtures::{Files, issue, names, now, serial, spiffe_id, trust_domain};

const YEAR: [&str; 2] = ["-days", "360"];

fn import_at(
    tls: &str,
    ca: &str,
    key: &PrivateKey,
    trusted_root: Option<&CaCertificate>,
    now: OffsetDateTime,
) -> Result<ImportedCa, ImportError> {
    let (trust_domain, dns_names) = (trust_domain(), names(&["svc", "svc.cluster.local"]));
    let rules = ImportRules {
        trust_domain: &trust_domain,
        dns_names: &dns_names,
        min_lifetime: "30d".parse().unwrap(),
        trusted_root,
    };
    check_import(tls, ca, key, &rules, now)
}

fn import(tls: &str, ca: &str, key: &PrivateKey) -> Result<ImportedCa, ImportError> {
    import_at(tls, ca, key, None, now())
}

/// Asserts that the import is rejected with a message that contains these words.
fn assert_rejected(case: &str, imported: Result<ImportedCa, ImportError>, words: &[&str]) {
    let message = imported.expect_err(case).to_string();
    for word in words {
        assert!(message.contains(word), "{case}: {message}");
    }
}

#[test]
fn the_request_contains_the_extensions_of_an_issuing_ca() {
    for algorithm in KeyAlgorithm::ALL {
        let company = Company::new(&format!("request-{algorithm}"));
        let (_, request) = request(algorithm);
        let path = company.write("issuing.csr", &request);
        let text = openssl(&["req", "-in", &path, "-verify", "-noout", "-text"]);
        for content in [
            "verify OK",
            "Subject: O = Certmint, CN = cluster.local issuing CA ",
            "CA:TRUE, pathlen:0",
            "Certificate Sign, CRL Sign",
            "URI:spiffe://cluster.local",
            "X509v3 Subject Key Identifier",
            "X509v3 Name Constraints: critical\n                    Permitted:\n                      DNS:svc\n                      DNS:svc.cluster.local",
        ] {
            assert!(text.contains(content), "{algorithm}: {content} is not in {text}");
        }
    }
}

#[test]
fn the_names_of_a_request_can_be_read() {
    for algorithm in KeyAlgorithm::ALL {
        let (key, request) = request(algorithm);
        assert_eq!(requested_dns(&request, &key), Some(names(&["svc", "svc.cluster.local"])));
    }
    let trust_domain = trust_domain();
    let (key, other) = request(KeyAlgorithm::EcdsaP256);
    let profile = RequestProfile { trust_domain: &trust_domain, permitted_dns: &[] };
    let unconstrained = signing_request(&profile, &key).unwrap();
    assert_eq!(requested_dns(&unconstrained, &key), Some(Vec::new()));
    let (other_key, _) = request(KeyAlgorithm::EcdsaP256);
    for (request, key) in [("", &key), ("-----BEGIN CERTIFICATE REQUEST-----", &key), (&other, &other_key)] {
        assert_eq!(requested_dns(request, key), None);
    }
}

#[test]
fn each_request_has_another_subject() {
    let subject = || {
        let path = Company::new("subjects").write("issuing.csr", &request(KeyAlgorithm::EcdsaP256).1);
        openssl(&["req", "-in", &path, "-noout", "-subject"])
    };
    assert_ne!(subject(), subject());
}

#[test]
fn accepts_a_ca_that_a_company_signed() {
    for algorithm in KeyAlgorithm::ALL {
        let company = Company::new(&format!("direct-{algorithm}"));
        let (key, request) = request(algorithm);
        let root = company.root("root", ROOT);
        let imported = import(&company.sign(&request, "root", ISSUING, &YEAR), &root, &key).unwrap();
        assert_eq!(imported.issuing.permitted_dns(), names(&["svc", "svc.cluster.local"]));
        assert_eq!(imported.root, CaCertificate::from_pem(Tier::Root, &root).unwrap());
        assert!(imported.intermediates.is_empty());
    }
}

#[test]
fn accepts_the_extensions_of_the_request() {
    let company = Company::new("copied");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let root = company.root("root", ROOT);
    let arguments = [&YEAR[..], &["-copy_extensions", "copyall"]].concat();
    let signed = company.sign(&request, "root", "authorityKeyIdentifier=keyid\n", &arguments);
    import(&signed, &root, &key).unwrap();
}

#[test]
fn accepts_a_ca_without_name_constraints() {
    let company = Company::new("unconstrained");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let root = company.root("root", ROOT);
    let imported = import(&company.sign(&request, "root", INTERMEDIATE, &YEAR), &root, &key).unwrap();
    assert!(imported.issuing.permitted_dns().is_empty());
}

#[test]
fn orders_the_intermediate_cas() {
    let company = Company::new("intermediates");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let root = company.root_with(
        "root",
        "/DC=corp/DC=example/OU=Security/OU=Keys/CN=Root",
        KeyType::Rsa("3072"),
        &format!("{ROOT}nameConstraints=critical,permitted;DNS:svc,permitted;DNS:cluster.local,permitted;DNS:corp.example,excluded;DNS:dev.corp.example\n"),
        &["-days", "3650", "-sha384"],
    );
    let policy = company.intermediate("policy", "root", INTERMEDIATE);
    let online = company.intermediate("online", "policy", INTERMEDIATE);
    let issuing = company.sign(&request, "online", ISSUING, &YEAR);
    for tls in [
        format!("{issuing}{online}{policy}"),
        format!("{root}{policy}{online}{issuing}"),
        format!("subject=comment\n{policy}{issuing}{online}"),
    ] {
        let imported = import(&tls, &root, &key).unwrap();
        let subjects: Vec<_> = imported.intermediates.iter().map(CaCertificate::pem).collect();
        let parsed = |pem: &str| CaCertificate::from_pem(Tier::Intermediate, pem).unwrap();
        assert_eq!(subjects, [parsed(&online).pem(), parsed(&policy).pem()]);
        assert_eq!(imported.issuing, CaCertificate::from_pem(Tier::Issuing, &issuing).unwrap());
    }
}

#[test]
fn rejects_wrong_extensions_of_the_issuing_ca() {
    let company = Company::new("wrong-issuing");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let root = company.root("root", ROOT);
    for (old, new, words) in [
        ("CA:TRUE,pathlen:0", "CA:FALSE", &["basicConstraints is not CA:TRUE", "CA:TRUE,pathlen:0"][..]),
        ("basicConstraints=critical,CA:TRUE,pathlen:0\n", "", &["basicConstraints is not CA:TRUE"]),
        ("basicConstraints=critical,", "basicConstraints=", &["basicConstraints is not critical"]),
        (
            "keyUsage=critical,keyCertSign,cRLSign",
            "keyUsage=critical,digitalSignature",
            &["keyUsage lacks keyCertSign", "request keyUsage=critical,keyCertSign,cRLSign"],
        ),
        ("keyUsage=critical,keyCertSign,cRLSign\n", "", &["keyUsage lacks keyCertSign"]),
        (
            "subjectKey",
            "extendedKeyUsage=serverAuth\nsubjectKey",
            &["extendedKeyUsage lacks clientAuth", "both serverAuth and clientAuth"],
        ),
        (
            "subjectKey",
            "extendedKeyUsage=codeSigning\nsubjectKey",
            &["extendedKeyUsage lacks serverAuth and clientAuth"],
        ),
        (
            "subjectKeyIdentifier=hash",
            "subjectKeyIdentifier=none",
            &["subjectKeyIdentifier is missing", "=hash"],
        ),
        (
            "authorityKeyIdentifier=keyid",
            "authorityKeyIdentifier=none",
            &["authorityKeyIdentifier is missing", "=keyid"],
        ),
        (
            ",permitted;DNS:svc.cluster.local",
            "",
            &["nameConstraints permit svc, and not svc.cluster.local", "request permitted DNS names"],
        ),
        ("DNS:svc,", "DNS:.svc,", &["nameConstraints permit .svc, svc.cluster.local, and not svc;"]),
        (
            "permitted;DNS:svc,",
            "excluded;DNS:payments.svc,permitted;DNS:svc,",
            &["nameConstraints exclude payments.svc"],
        ),
        (
            "permitted;DNS:svc,",
            "permitted;URI:cluster.local,permitted;DNS:svc,",
            &["nameConstraints for URI are not supported", "DNS names only"],
        ),
        (
            "subjectKey",
            "policyConstraints=critical,requireExplicitPolicy:0\nsubjectKey",
            &["critical extension policyConstraints (2.5.29.36) is not supported"],
        ),
        (
            "subjectKey",
            "subjectAltName=URI:spiffe://other.example\nsubjectKey",
            &["subjectAltName has the URI spiffe://other.example", "trust domain is cluster.local"],
        ),
    ] {
        let extensions = ISSUING.replacen(old, new, 1);
        assert_ne!(extensions, ISSUING, "{old}");
        let signed = company.sign(&request, "root", &extensions, &YEAR);
        let words = [&["issuing CA (O=Certmint"], words].concat();
        assert_rejected(new, import(&signed, &root, &key), &words);
    }
}

#[test]
fn rejects_wrong_extensions_of_the_root() {
    let company = Company::new("wrong-root");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    for (old, new, words) in [
        ("basicConstraints=critical,CA:TRUE\n", "", "root CA (O=Example, CN=root): basicConstraints"),
        ("keyUsage=critical,keyCertSign,cRLSign\n", "", "keyUsage lacks keyCertSign"),
        ("subjectKey", "extendedKeyUsage=clientAuth\nsubjectKey", "extendedKeyUsage lacks serverAuth"),
        (
            "subjectKey",
            "nameConstraints=critical,permitted;DNS:corp.example\nsubjectKey",
            "nameConstraints permit corp.example, and not svc",
        ),
        (
            "subjectKey",
            "nameConstraints=critical,excluded;DNS:cluster.local\nsubjectKey",
            "nameConstraints exclude cluster.local",
        ),
        (
            "subjectKey",
            "nameConstraints=critical,permitted;dirName:company\n[company]\nO=Example\n[unused]\nsubjectKey",
            "nameConstraints for directoryName are not supported",
        ),
    ] {
        let root = company.root("root", &ROOT.replacen(old, new, 1));
        let signed = company.sign(&request, "root", ISSUING, &YEAR);
        assert_rejected(new, import(&signed, &root, &key), &["root CA (O=Example", words]);
    }
}

#[test]
fn rejects_a_path_length_that_is_too_small() {
    let company = Company::new("path-length");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let short = |extensions: &str| extensions.replace("CA:TRUE", "CA:TRUE,pathlen:0");
    let root = company.root("root", ROOT);
    let online = company.intermediate("online", "root", &short(INTERMEDIATE));
    let signed = company.sign(&request, "online", ISSUING, &YEAR);
    let words =
        ["intermediate CA (O=Example, CN=online)", "pathlen:0", "1 CAs are below", "pathlen:1 or more"];
    assert_rejected("intermediate", import(&format!("{signed}{online}"), &root, &key), &words);
    let root = company.root("root", &short(ROOT));
    let online = company.intermediate("online", "root", INTERMEDIATE);
    let signed = company.sign(&request, "online", ISSUING, &YEAR);
    assert_rejected("root", import(&format!("{signed}{online}"), &root, &key), &["root CA", "pathlen:0"]);
}

#[test]
fn rejects_weak_and_unknown_algorithms() {
    let company = Company::new("algorithms");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let root = |key_type, arguments: &[&str]| {
        company.root_with(
            "root",
            "/O=Example/CN=root",
            key_type,
            ROOT,
            &[&["-days", "365"], arguments].concat(),
        )
    };
    for (key_type, arguments, words) in [
        (KeyType::P256, &["-sha1"][..], "SHA-1 with ECDSA is not accepted"),
        (KeyType::Rsa("2048"), &["-sha1"], "SHA-1 with RSA is not accepted"),
        (KeyType::Rsa("1024"), &[], "RSA with 1024 bits is not accepted"),
        (KeyType::P521, &["-sha512"], "is not accepted; request a signature with SHA-256"),
    ] {
        let ca = root(key_type, arguments);
        let signed = company.sign(&request, "root", ISSUING, &YEAR);
        assert_rejected(words, import(&signed, &ca, &key), &[words, "root CA"]);
    }
    let ca = root(KeyType::P256, &[]);
    let signed = company.sign(&request, "root", ISSUING, &[&YEAR[..], &["-sha1"]].concat());
    assert_rejected(
        "issuing",
        import(&signed, &ca, &key),
        &["issuing CA", "SHA-1 with ECDSA is not accepted"],
    );
}

#[test]
fn rejects_a_wrong_validity_period() {
    let company = Company::new("validity");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let root = company.root("root", ROOT);
    let signed = company.sign(&request, "root", ISSUING, &YEAR);
    let import_after = |days| import_at(&signed, &root, &key, None, now() + Duration::days(days));
    assert_rejected("early", import_after(-1), &["issuing CA", "starts at", "an earlier notBefore"]);
    assert_rejected("expired", import_after(361), &["issuing CA", "ended at", "request a valid certificate"]);
    assert_rejected("short", import_after(340), &["ends at", "request a notAfter of"]);
    let signed = company.sign(&request, "root", ISSUING, &["-days", "400"]);
    assert_rejected(
        "longer than the root",
        import(&signed, &root, &key),
        &["issuing CA", "after its issuer at"],
    );
}

#[test]
fn rejects_a_broken_chain() {
    let company = Company::new("chain");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let root = company.root("root", ROOT);
    let other = company.root("other", ROOT);
    let online = company.intermediate("online", "root", INTERMEDIATE);
    let signed = company.sign(&request, "online", ISSUING, &YEAR);
    let direct = company.sign(&request, "root", ISSUING, &YEAR);

    let words = ["its issuer (O=Example, CN=online) is neither in tls.crt", "append them to tls.crt"];
    assert_rejected("no intermediate CA", import(&signed, &root, &key), &words);
    assert_rejected("another root", import(&direct, &other, &key), &["its issuer (O=Example, CN=root)"]);
    let words = ["intermediate CA (O=Example, CN=online): it is not between", "remove it from tls.crt"];
    assert_rejected("unused", import(&format!("{direct}{online}"), &root, &key), &words);
    let words = ["root CA (O=Example, CN=online): it is not self-signed", "the certificate of the root"];
    assert_rejected("intermediate as root", import(&signed, &online, &key), &words);
    let imported = import(&direct, &format!("{root}{other}"), &key);
    assert_rejected(
        "two roots",
        imported,
        &["ca.crt contains 2 certificates", "intermediate CAs into tls.crt"],
    );
    let many = direct.repeat(7);
    assert_rejected("many", import(&many, &root, &key), &["tls.crt contains 7 certificates", "at most 6"]);

    let (other_key, _) = crate::company::request(KeyAlgorithm::EcdsaP256);
    let words = ["no certificate in tls.crt has the key of the current request", "issuing.csr"];
    assert_rejected("another key", import(&direct, &root, &other_key), &words);

    let subject =
        openssl(&["req", "-in", &company.path("request.csr"), "-noout", "-subject", "-nameopt", "compat"]);
    let subject = subject.trim().trim_start_matches("subject=");
    let same_name = company.root_with("root", subject, KeyType::P256, ROOT, &["-days", "365"]);
    let signed = company.sign(&request, "root", ISSUING, &YEAR);
    assert_rejected("same name", import(&signed, &same_name, &key), &["the subject is empty, or the same"]);
}

#[test]
fn rejects_a_changed_signature() {
    let company = Company::new("signature");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let root = company.root("root", ROOT);
    let mut signed = company.sign(&request, "root", ISSUING, &YEAR);
    let end = signed.find("\n-----END").unwrap() - 8;
    let replacement = if signed[end..].starts_with("AAAA") { "BBBB" } else { "AAAA" };
    signed.replace_range(end..end + 4, replacement);
    assert_rejected("signature", import(&signed, &root, &key), &["the signature is not that of its issuer"]);
}

#[test]
fn rejects_files_that_are_not_certificates() {
    let company = Company::new("files");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let root = company.root("root", ROOT);
    let signed = company.sign(&request, "root", ISSUING, &YEAR);
    for (tls, ca, words) in [
        ("", root.as_str(), "tls.crt must contain certificates as PEM"),
        (&signed, "0\u{82}\u{1}", "ca.crt must contain certificates as PEM"),
        (&request, &root, "tls.crt must contain certificates as PEM"),
        (&key.to_pem().unwrap(), &root, "tls.crt contains a private key: delete the ConfigMap"),
        (&"x".repeat(70_000), &root, "tls.crt is larger than 65536 bytes"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &root,
            "a certificate in tls.crt cannot be read",
        ),
    ] {
        assert_rejected(words, import(tls, ca, &key), &[words]);
    }
}

#[test]
fn another_root_than_the_trusted_one_is_a_rotation() {
    let company = Company::new("another-root");
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let trusted = CaCertificate::from_pem(Tier::Root, &company.root("trusted", ROOT)).unwrap();
    let root = company.root("root", ROOT);
    let signed = company.sign(&request, "root", ISSUING, &YEAR);
    let imported = import_at(&signed, &root, &key, Some(&trusted), now());
    assert_rejected("root", imported, &[&trusted.fingerprint(), "a change of the root is a rotation"]);
    let own = CaCertificate::from_pem(Tier::Root, &root).unwrap();
    import_at(&signed, &root, &key, Some(&own), now()).unwrap();
}

/// Returns an authority below an offline root, with intermediate CAs.
fn offline_authority(company: &Company) -> Authority {
    let (key, request) = request(KeyAlgorithm::EcdsaP256);
    let constraints = "nameConstraints=critical,permitted;DNS:svc,permitted;DNS:svc.cluster.local\n";
    let root = company.root("root", &format!("{ROOT}{constraints}"));
    let policy = company.intermediate("policy", "root", INTERMEDIATE);
    let issuing = company.sign(&request, "policy", INTERMEDIATE, &YEAR);
    let ImportedCa { issuing, intermediates, root } =
        import(&format!("{issuing}{policy}"), &root, &key).unwrap();
    let issuing = IssuingCa::new(issuing, key).unwrap().with_intermediates(intermediates);
    Authority::new(Arc::new(RootCa::offline(root, now()).unwrap()), issuing).unwrap()
}

#[test]
fn a_leaf_below_an_offline_root_carries_the_intermediate_cas() {
    let company = Company::new("leaf");
    let authority = offline_authority(&company);
    let files = Files::write("offline-leaf", &issue(&authority, KeyAlgorithm::EcdsaP256, "24h", now()));
    let chain = std::fs::read_to_string(files.path("tls.crt")).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 3);
    let path = |file| files.path(file).to_str().unwrap().to_owned();
    for purpose in ["sslserver", "sslclient"] {
        let trust = ["-CAfile", &path("ca.crt"), "-no-CApath", "-no-CAstore", "-untrusted", &path("tls.crt")];
        let checks = ["-x509_strict", "-purpose", purpose, "-verify_hostname", "payments.shop.svc"];
        openssl(&[&["verify"], &trust[..], &checks[..], &[&path("tls.crt")]].concat());
    }
}

#[test]
fn the_constraints_of_an_offline_root_apply_to_each_leaf() {
    let authority = offline_authority(&Company::new("leaf-constraints"));
    let (dns_names, spiffe_id) = (names(&["pay.example.com"]), spiffe_id());
    let profile =
        LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime: "1h".parse().unwrap() };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let error = authority.issue(&profile, &key, serial(3), now()).unwrap_err().to_string();
    assert!(error.contains("NameConstraintViolation"), "{error}");
}

#[test]
fn an_offline_root_is_stored_without_a_key_and_signs_nothing() {
    let authority = offline_authority(&Company::new("stored"));
    let pem = authority.to_pem().unwrap();
    assert!(pem.root.private_key.is_empty());
    assert_eq!(pem.issuing.certificate.matches("BEGIN CERTIFICATE").count(), 2);
    let root = CaCertificate::from_pem(Tier::Root, &pem.root.certificate).unwrap();
    let root = Arc::new(RootCa::offline(root, now()).unwrap());
    let read = Authority::of_root(Arc::clone(&root), &pem.issuing, now()).unwrap();
    assert_eq!(read.to_pem().unwrap().issuing.certificate, pem.issuing.certificate);
    issue(&read, KeyAlgorithm::EcdsaP256, "24h", now());
    let (trust_domain, key) = (trust_domain(), PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap());
    let profile =
        IssuingProfile { trust_domain: &trust_domain, lifetime: "1d".parse().unwrap(), permitted_dns: &[] };
    assert!(matches!(root.sign_issuing(&profile, key, serial(1), now()), Err(CaError::Offline)));
}

#[test]
fn rejects_a_stored_chain_with_a_foreign_intermediate_ca() {
    let (company, other) = (Company::new("stored-chain"), Company::new("other-chain"));
    let (mut pem, foreign) = (offline_authority(&company).to_pem().unwrap(), offline_authority(&other));
    let root = CaCertificate::from_pem(Tier::Root, &pem.root.certificate).unwrap();
    let intermediate = foreign.issuing().chain().last().unwrap().pem().to_owned();
    let start = pem.issuing.certificate.rfind("-----BEGIN").unwrap();
    pem.issuing.certificate.replace_range(start.., &intermediate);
    let root = Arc::new(RootCa::offline(root, now()).unwrap());
    let error = Authority::of_root(root, &pem.issuing, now()).unwrap_err();
    assert!(matches!(error, CaError::NotChained(_)), "{error}");
}

proptest! {
    #[test]
    fn rejects_random_files_without_panicking(tls: String, ca: String, der: Vec<u8>) {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let block = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der));
        for (tls, ca) in [(&tls, &ca), (&block, &block)] {
            prop_assert!(import(tls, ca, &key).is_err());
        }
    }
}
