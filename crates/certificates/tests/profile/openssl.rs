//! Verification of issued certificates with OpenSSL.

use std::fs;
use std::process::{Command, Output};

use certmint_certificates::PrivateKey;
use certmint_contract::KeyAlgorithm;

use crate::fixtures::{Ca, Files, issue, names, now, output_text, sign};

#[test]
fn openssl_accepts_every_algorithm_for_both_uses() {
    let authority = Ca::default().create();
    for algorithm in KeyAlgorithm::ALL {
        let files =
            Files::write(&format!("openssl-{algorithm}"), &issue(&authority, algorithm, "24h", now()));
        for purpose in ["sslserver", "sslclient"] {
            for name in ["payments.shop.svc", "payments.shop.svc.cluster.local"] {
                let output = verify(&files, purpose, name);
                assert!(output.status.success(), "{algorithm} {purpose} {name}: {}", output_text(&output));
            }
        }
    }
}

#[test]
fn openssl_accepts_a_ca_of_every_algorithm() {
    for algorithm in KeyAlgorithm::ALL {
        let authority = Ca { algorithm, ..Ca::default() }.create();
        let issued = issue(&authority, KeyAlgorithm::EcdsaP256, "24h", now());
        let output = verify(
            &Files::write(&format!("openssl-ca-{algorithm}"), &issued),
            "sslserver",
            "payments.shop.svc",
        );
        assert!(output.status.success(), "{algorithm}: {}", output_text(&output));
    }
}

#[test]
fn openssl_rejects_a_wrong_name() {
    let issued = issue(&Ca::default().create(), KeyAlgorithm::EcdsaP256, "24h", now());
    let files = Files::write("openssl-wrong-name", &issued);
    for name in ["orders.shop.svc", "payments", "shop.svc", "x.payments.shop.svc"] {
        let output = verify(&files, "sslserver", name);
        assert!(!output.status.success(), "{name} was accepted");
        assert!(output_text(&output).contains("hostname mismatch"), "{name}: {}", output_text(&output));
    }
}

#[test]
fn openssl_rejects_another_ca() {
    let issued = issue(&Ca::default().create(), KeyAlgorithm::EcdsaP256, "24h", now());
    let other = issue(&Ca::default().create(), KeyAlgorithm::EcdsaP256, "24h", now());
    let files = Files::write("openssl-another-ca", &issued);
    fs::write(files.path("ca.crt"), &other.bundle.trust_bundle.roots).unwrap();
    assert!(!verify(&files, "sslserver", "payments.shop.svc").status.success());
}

#[test]
fn openssl_rejects_a_name_outside_the_constraints() {
    let authority = Ca { permitted: names(&["elsewhere"]), ..Ca::default() }.create();
    // An issuing CA signs without verification; an authority would not.
    let files = Files::write_chain("openssl-constraints", sign(authority.issuing()).chain_pem(), &authority);
    let output = verify(&files, "sslserver", "payments.shop.svc");
    assert!(output_text(&output).contains("permitted subtree violation"), "{}", output_text(&output));
}

#[test]
fn keys_are_exchangeable_with_openssl() {
    for (algorithm, arguments) in [
        (KeyAlgorithm::EcdsaP256, vec!["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        (KeyAlgorithm::EcdsaP384, vec!["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        (KeyAlgorithm::Ed25519, vec!["-algorithm", "ED25519"]),
        (KeyAlgorithm::Rsa2048, vec!["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ] {
        let output = openssl(&[&["genpkey"], arguments.as_slice()].concat());
        let key = PrivateKey::from_pem(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(key.unwrap().algorithm(), algorithm);
    }
    for algorithm in KeyAlgorithm::ALL {
        let key = PrivateKey::generate(algorithm).unwrap();
        let path = Files::directory_of(&format!("openssl-key-{algorithm}")).join("tls.key");
        fs::write(&path, key.to_pem().unwrap().as_bytes()).unwrap();
        let output = openssl(&["pkey", "-noout", "-check", "-in", path.to_str().unwrap()]);
        assert!(output.status.success(), "{algorithm}: {}", output_text(&output));
    }
}

fn verify(files: &Files, purpose: &str, name: &str) -> Output {
    let path = |file| files.path(file).to_str().unwrap().to_owned();
    let (root, chain) = (path("ca.crt"), path("tls.crt"));
    let trust = ["-CAfile", &root, "-no-CApath", "-no-CAstore", "-untrusted", &chain];
    let checks = ["-x509_strict", "-purpose", purpose, "-verify_hostname", name, &chain];
    openssl(&[&["verify"], trust.as_slice(), checks.as_slice()].concat())
}

fn openssl(arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).output().expect("openssl is installed: apt-get install openssl")
}
