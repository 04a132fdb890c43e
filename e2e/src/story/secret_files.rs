//! A Secret of ours as files, for programs that check certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::command;
use certmint_local_cluster::kubectl::Kubectl;

/// `tls.crt`, `tls.key` and `ca.crt` in a directory, which is removed in the end.
#[derive(Debug)]
pub struct SecretFiles(PathBuf);

impl SecretFiles {
    /// The files of the Secret of that name.
    ///
    /// # Errors
    /// When the Secret is not there or the files cannot be written.
    pub fn of(kubectl: &Kubectl<'_>, secret: &str) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("certmint-{secret}-{}", process::id()));
        fs::create_dir_all(&directory)?;
        let files = Self(directory);
        for key in ["tls.crt", "tls.key", "ca.crt"] {
            let path = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
            fs::write(files.path(key), kubectl.run(&["get", "secret", secret, "--output", &path])?)?;
        }
        Ok(files)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Passes when the private key is that of the certificate.
    ///
    /// # Errors
    /// When it is not, by OpenSSL.
    pub fn key_fits(&self) -> Result<()> {
        let of_key = openssl(&["pkey", "-pubout", "-in"], &self.path("tls.key"))?;
        let of_certificate = openssl(&["x509", "-noout", "-pubkey", "-in"], &self.path("tls.crt"))?;
        ensure!(of_key == of_certificate, "the key does not fit the certificate");
        Ok(())
    }

    /// The certificate as OpenSSL prints it.
    ///
    /// # Errors
    /// When OpenSSL cannot read it.
    pub fn text(&self) -> Result<String> {
        openssl(&["x509", "-noout", "-text", "-in"], &self.path("tls.crt"))
    }

    /// The issuing CA's certificate, the second in the chain, as OpenSSL prints it.
    ///
    /// # Errors
    /// When there is none.
    pub fn issuing_ca_text(&self) -> Result<String> {
        let chain = fs::read_to_string(self.path("tls.crt"))?;
        let begin = "-----BEGIN CERTIFICATE-----";
        let issuing = chain.rsplit_once(begin).map(|(_, body)| format!("{begin}{body}"));
        let issuing = issuing.context("the chain is empty")?;
        command::output_with_input(Command::new("openssl").args(["x509", "-noout", "-text"]), &issuing)
    }

    /// `openssl verify` of the whole chain, with further `arguments`.
    ///
    /// # Errors
    /// What OpenSSL objects to.
    pub fn verify(&self, arguments: &[&str]) -> Result<String> {
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-x509_strict", "-CAfile"]).arg(self.path("ca.crt"));
        verify.arg("-untrusted").arg(self.path("tls.crt"));
        command::output(verify.args(arguments).arg(self.path("tls.crt")))
    }
}

impl Drop for SecretFiles {
    fn drop(&mut self) {
        // What cannot be removed is reported by the machine's own temporary-file cleaning.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn openssl(arguments: &[&str], file: &Path) -> Result<String> {
    command::output(Command::new("openssl").args(arguments).arg(file))
}
