//! Files with the content of a Secret, for programs that check certificates, such as OpenSSL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::command;
use certmint_local_cluster::kubectl::Kubectl;

/// Temporary directory with `tls.crt`, `tls.key` and `ca.crt`. It is removed on drop.
#[derive(Debug)]
pub struct SecretFiles {
    directory: PathBuf,
}

impl SecretFiles {
    /// Writes the content of the Secret to the files.
    ///
    /// # Errors
    /// When the Secret does not exist, or the files cannot be written.
    pub fn write(kubectl: &Kubectl<'_>, secret: &str) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("certmint-{secret}-{}", process::id()));
        fs::create_dir_all(&directory)?;
        let files = Self { directory };
        for key in ["tls.crt", "tls.key", "ca.crt"] {
            let output = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
            fs::write(files.path(key), kubectl.run(&["get", "secret", secret, "--output", &output])?)?;
        }
        Ok(files)
    }

    /// Returns the path of a file.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Asserts with OpenSSL that the private key belongs to the certificate.
    ///
    /// # Errors
    /// When the key does not belong to the certificate, or OpenSSL fails.
    pub fn assert_key_matches(&self) -> Result<()> {
        let of_key = openssl(&["pkey", "-pubout", "-in"], &self.path("tls.key"))?;
        let of_certificate = openssl(&["x509", "-noout", "-pubkey", "-in"], &self.path("tls.crt"))?;
        ensure!(of_key == of_certificate, "the private key does not belong to the certificate");
        Ok(())
    }

    /// Returns the certificate as OpenSSL prints it.
    ///
    /// # Errors
    /// When OpenSSL cannot read the certificate.
    pub fn certificate_text(&self) -> Result<String> {
        openssl(&["x509", "-noout", "-text", "-in"], &self.path("tls.crt"))
    }

    /// Returns the certificate of the issuing CA, which is the second one in the chain, as OpenSSL prints it.
    ///
    /// # Errors
    /// When the chain has no such certificate.
    pub fn issuing_ca_text(&self) -> Result<String> {
        let chain = fs::read_to_string(self.path("tls.crt"))?;
        let begin = "-----BEGIN CERTIFICATE-----";
        let issuing = chain.rsplit_once(begin).map(|(_, body)| format!("{begin}{body}"));
        let issuing = issuing.context("the chain is empty")?;
        command::output_with_input(Command::new("openssl").args(["x509", "-noout", "-text"]), &issuing)
    }

    /// Runs `openssl verify` on the whole chain with further `arguments`.
    ///
    /// # Errors
    /// When OpenSSL rejects the chain.
    pub fn verify(&self, arguments: &[&str]) -> Result<String> {
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-x509_strict", "-CAfile"]).arg(self.path("ca.crt"));
        verify.arg("-untrusted").arg(self.path("tls.crt"));
        command::output(verify.args(arguments).arg(self.path("tls.crt")))
    }
}

impl Drop for SecretFiles {
    fn drop(&mut self) {
        // An error is ignored: the operating system cleans temporary files, too.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn openssl(arguments: &[&str], file: &Path) -> Result<String> {
    command::output(Command::new("openssl").args(arguments).arg(file))
}
