//! Checks of issued certificates with two Python programs: pkilint, and the verifier of the library cryptography.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::{env, fs};

use certmint_certificates::{Authority, IssuedLeaf};
use certmint_contract::KeyAlgorithm;

use crate::fixtures::{Ca, Files, issue, leaf_alone, names, now, output_text, sign};

/// Errors of pkilint that are not errors in RFC 5280. pkilint does not know the scheme `spiffe`, but section 4.2.1.6 allows
/// any absolute URI. pkilint requires two labels in a name constraint, but section 4.2.1.10 does not.
const FALSE_ALARMS: [&str; 2] = [
    r#"pkix.invalid_uri_syntax,"Invalid URI syntax: ""spiffe://"#,
    r#".nameConstraints.permittedSubtrees.0.base.dNSName,GeneralNameDnsNameSyntaxValidator,ERROR,pkix.invalid_domain_name_syntax,"Invalid domain name syntax: ""svc""""#,
];

#[test]
fn pkilint_finds_no_error() {
    for (ca, leaf) in cases() {
        let authority = Ca { algorithm: ca, ..Ca::default() }.create();
        lint(&format!("pkilint-{ca}-{leaf}"), &authority, &issue(&authority, leaf, "24h", now()));
    }
    // A leaf with a lifetime of more than a day has no noRevAvail.
    let authority = Ca::default().create();
    lint("pkilint-long", &authority, &issue(&authority, KeyAlgorithm::EcdsaP256, "30d", now()));
}

fn lint(test: &str, authority: &Authority, issued: &IssuedLeaf) {
    let files = Files::write(test, issued);
    fs::write(files.path("leaf.crt"), leaf_alone(&issued.bundle)).unwrap();
    fs::write(files.path("issuing.crt"), authority.issuing().certificate().pem()).unwrap();
    for file in ["leaf.crt", "issuing.crt", "ca.crt"] {
        let findings = pkilint("lint_pkix_cert", &[files.path(file)]);
        assert_eq!(findings, Vec::<String>::new(), "{file} of {test}");
    }
    for (issuer, subject) in [("ca.crt", "issuing.crt"), ("issuing.crt", "leaf.crt")] {
        let findings =
            pkilint("lint_pkix_signer_signee_cert_chain", &[files.path(issuer), files.path(subject)]);
        assert_eq!(findings, Vec::<String>::new(), "{subject} of {test}");
    }
}

#[test]
fn pkilint_detects_an_error() {
    let issued = issue(&Ca::default().create(), KeyAlgorithm::EcdsaP256, "1h", now());
    let files = Files::write("pkilint-error", &issued);
    fs::write(files.path("leaf.crt"), leaf_alone(&issued.bundle)).unwrap();
    // The root did not sign the leaf.
    let findings =
        pkilint("lint_pkix_signer_signee_cert_chain", &[files.path("ca.crt"), files.path("leaf.crt")]);
    assert!(!findings.is_empty());
}

#[test]
fn cryptography_accepts_the_right_name_only() {
    for (ca, leaf) in cases() {
        // For CAs, the library follows the policy of the Web PKI, which does not contain Ed25519.
        if ca == KeyAlgorithm::Ed25519 {
            continue;
        }
        let authority = Ca { algorithm: ca, ..Ca::default() }.create();
        let files =
            Files::write(&format!("cryptography-{ca}-{leaf}"), &issue(&authority, leaf, "24h", now()));
        let output = cryptography(&files, "payments.shop.svc");
        assert!(output.status.success(), "{leaf} under {ca}: {}", output_text(&output));
        let output = cryptography(&files, "orders.shop.svc");
        assert!(output_text(&output).contains("no matching subjectAltName"), "{}", output_text(&output));
    }
}

#[test]
fn cryptography_rejects_a_name_outside_the_constraints() {
    let authority = Ca { permitted: names(&["elsewhere"]), ..Ca::default() }.create();
    let files =
        Files::write_chain("cryptography-constraints", sign(authority.issuing()).chain_pem(), &authority);
    let output = cryptography(&files, "payments.shop.svc");
    assert!(output_text(&output).contains("name constraints"), "{}", output_text(&output));
}

/// Returns every algorithm of a leaf with the default CA, and every algorithm of a CA with the default leaf.
fn cases() -> impl Iterator<Item = (KeyAlgorithm, KeyAlgorithm)> {
    let default = KeyAlgorithm::default();
    let cas = KeyAlgorithm::ALL.into_iter().filter(move |ca| *ca != default).map(move |ca| (ca, default));
    KeyAlgorithm::ALL.into_iter().map(move |leaf| (default, leaf)).chain(cas)
}

/// Returns the errors of pkilint, one line each, without the false alarms.
fn pkilint(program: &str, files: &[PathBuf]) -> Vec<String> {
    let module = format!("pkilint.bin.{program}");
    let output = python(&["-m", &module, "lint", "-s", "ERROR", "-f", "CSV"], files);
    let text = output_text(&output);
    let (heading, findings) = text.split_once('\n').unwrap_or_else(|| panic!("pkilint failed: {text}"));
    assert!(heading.starts_with("node_path,validator,severity"), "pkilint failed: {text}");
    findings
        .lines()
        .filter(|line| !line.trim().is_empty() && !FALSE_ALARMS.iter().any(|alarm| line.contains(alarm)))
        .map(Into::into)
        .collect()
}

fn cryptography(files: &Files, name: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/profile/verify.py");
    python(&[script.to_str().unwrap()], &[files.directory().into(), name.into()])
}

fn python(arguments: &[&str], files: &[PathBuf]) -> Output {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    let venv = VENV.get_or_init(prepare_venv);
    Command::new(venv.join("bin/python")).args(arguments).args(files).output().unwrap()
}

/// Returns a virtual environment with exactly the pinned packages. The first run creates it in the cache.
fn prepare_venv() -> PathBuf {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/profile/requirements.txt");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let cache = env::var_os("CERTMINT_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = env::var_os("HOME").expect("HOME or CERTMINT_CACHE names the directory of the cache");
        Path::new(&home).join(".cache/certmint")
    });
    let venv = cache.join("venv-pkilint");
    let complete = venv.join("requirements.txt");
    if fs::read_to_string(&complete).is_ok_and(|installed| installed == wanted) {
        return venv;
    }
    let created = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).output();
    let hint = "the linters need Python: apt-get install python3 python3-venv";
    let created = created.unwrap_or_else(|why| panic!("python3 cannot be run ({why}); {hint}"));
    assert!(created.status.success(), "{}{hint}", output_text(&created));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    let installed = Command::new(venv.join("bin/python")).args(pip).arg(&requirements).output().unwrap();
    let hint = "the linters are installed with pip: see that it reaches a package index";
    assert!(installed.status.success(), "{}{hint}", output_text(&installed));
    fs::write(complete, wanted).unwrap();
    venv
}
