//! The offline CA of a company, which OpenSSL plays.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use certmint_certificates::PrivateKey;
use certmint_certificates::ca::{RequestProfile, signing_request};
use certmint_contract::KeyAlgorithm;

use crate::fixtures::{Files, names, output_text, trust_domain};

/// Extensions of a root, as OpenSSL configures them.
pub(crate) const ROOT: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
                               subjectKeyIdentifier=hash\n";
/// Extensions of an intermediate CA.
pub(crate) const INTERMEDIATE: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
     subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
/// Extensions of an issuing CA.
pub(crate) const ISSUING: &str = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
     subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
     nameConstraints=critical,permitted;DNS:svc,permitted;DNS:svc.cluster.local\n";

/// Directory with the CAs of a company: files `NAME.crt` and `NAME.key`.
pub(crate) struct Company(PathBuf);

/// Type of the key of a CA.
#[derive(Clone, Copy)]
pub(crate) enum KeyType {
    P256,
    P521,
    Rsa(&'static str),
}

impl Company {
    pub(crate) fn new(test: &str) -> Self {
        Self(Files::directory_of(&format!("company-{test}")))
    }

    /// Creates a self-signed root for a year.
    pub(crate) fn root(&self, name: &str, extensions: &str) -> String {
        self.root_with(name, &format!("/O=Example/CN={name}"), KeyType::P256, extensions, &["-days", "365"])
    }

    pub(crate) fn root_with(
        &self,
        name: &str,
        subject: &str,
        key_type: KeyType,
        extensions: &str,
        arguments: &[&str],
    ) -> String {
        let key = self.new_key(name, key_type);
        let config = self.write(&format!("{name}.cnf"), &config(extensions));
        let files = ["-key", &key, "-config", &config, "-extensions", "extensions"];
        let certificate = self.path(&format!("{name}.crt"));
        openssl(
            &[&["req", "-x509", "-new", "-subj", subject, "-out", &certificate], &files[..], arguments]
                .concat(),
        );
        self.read(&format!("{name}.crt"))
    }

    /// Creates an intermediate CA below another CA. It ends before its issuer.
    pub(crate) fn intermediate(&self, name: &str, issuer: &str, extensions: &str) -> String {
        let key = self.new_key(name, KeyType::P256);
        let request = self.path(&format!("{name}.csr"));
        openssl(&["req", "-new", "-key", &key, "-subj", &format!("/O=Example/CN={name}"), "-out", &request]);
        // Two CAs with the same lifetime could end in different seconds.
        let days = if issuer == "root" { "364" } else { "363" };
        let certificate = self.sign(&self.read(&format!("{name}.csr")), issuer, extensions, &["-days", days]);
        self.write(&format!("{name}.crt"), &certificate);
        certificate
    }

    /// Signs a request with a CA.
    pub(crate) fn sign(&self, request: &str, issuer: &str, extensions: &str, arguments: &[&str]) -> String {
        let request = self.write("request.csr", request);
        let extensions = self.write("request.ext", extensions);
        let (certificate, key) = (self.path(&format!("{issuer}.crt")), self.path(&format!("{issuer}.key")));
        let signed = self.path("signed.crt");
        let files = ["-CA", &certificate, "-CAkey", &key, "-extfile", &extensions, "-out", &signed];
        openssl(&[&["x509", "-req", "-in", &request, "-CAcreateserial"], &files[..], arguments].concat());
        self.read("signed.crt")
    }

    fn new_key(&self, name: &str, key_type: KeyType) -> String {
        let path = self.path(&format!("{name}.key"));
        let bits;
        let options = match key_type {
            KeyType::P256 => ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            KeyType::P521 => ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            KeyType::Rsa(length) => {
                bits = format!("rsa_keygen_bits:{length}");
                ["-algorithm", "RSA", "-pkeyopt", &bits]
            }
        };
        openssl(&[&["genpkey", "-out", &path], &options[..]].concat());
        path
    }

    pub(crate) fn write(&self, file: &str, content: &str) -> String {
        fs::write(self.0.join(file), content).unwrap();
        self.path(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().unwrap().to_owned()
    }
}

fn config(extensions: &str) -> String {
    format!("[req]\ndistinguished_name=name\n[name]\n[extensions]\n{extensions}")
}

/// Returns the output of OpenSSL.
pub(crate) fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", output_text(&output));
    output_text(&output)
}

/// Returns a new key and the request for it.
pub(crate) fn request(algorithm: KeyAlgorithm) -> (PrivateKey, String) {
    let key = PrivateKey::generate(algorithm).unwrap();
    let (trust_domain, permitted) = (trust_domain(), names(&["svc", "svc.cluster.local"]));
    let profile = RequestProfile { trust_domain: &trust_domain, permitted_dns: &permitted };
    let request = signing_request(&profile, &key).unwrap();
    (key, request)
}
