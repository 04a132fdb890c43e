//! Calls of the payments service with curl, from the checkout pod.

use anyhow::{Context as _, Result, bail};
use certmint_local_cluster::kubectl::Kubectl;

/// Directory of the certificate files in the checkout pod.
const TLS_DIRECTORY: &str = "/var/run/secrets/certmint.dev";
/// Directory for the foreign certificate that the checkout pod creates.
const FOREIGN_DIRECTORY: &str = "/tmp";

/// Client certificate of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// The certificate that Certmint issued to the checkout pod.
    Issued,
    /// No certificate.
    None,
    /// A self-signed certificate with the names of the issued one.
    Foreign,
}

/// HTTP response to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResponse {
    /// HTTP status code.
    pub status: u16,
    /// Response body.
    pub body: String,
}

/// Calls `https://HOST/` and trusts only Certmint's CA.
///
/// # Errors
/// When there is no response, for example because the server's certificate is not valid for `host`.
pub fn call(kubectl: &Kubectl<'_>, client: ClientCertificate, host: &str) -> Result<CallResponse> {
    let key_pair = match client {
        ClientCertificate::Issued => {
            Some((format!("{TLS_DIRECTORY}/tls.crt"), format!("{TLS_DIRECTORY}/tls.key")))
        }
        ClientCertificate::None => None,
        ClientCertificate::Foreign => Some(create_foreign_certificate(kubectl)?),
    };
    let (roots, url) = (format!("{TLS_DIRECTORY}/ca.crt"), format!("https://{host}/"));
    let mut curl = vec!["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", &roots];
    if let Some((certificate, key)) = &key_pair {
        curl.extend(["--cert", certificate, "--key", key]);
    }
    curl.extend(["--write-out", "\n%{http_code}", &url]);
    let printed = kubectl.exec("deployment/checkout", "shell", &curl)?;
    let (body, status) = printed.rsplit_once('\n').context("curl printed no status")?;
    Ok(CallResponse {
        status: status.trim().parse().context("curl printed no status")?,
        body: body.to_owned(),
    })
}

/// Asserts that a call with the issued certificate succeeds, and returns the response body.
///
/// # Errors
/// When the call does not succeed.
pub fn assert_succeeds(kubectl: &Kubectl<'_>, host: &str) -> Result<String> {
    let response = call(kubectl, ClientCertificate::Issued, host)?;
    if response.status != 200 || !response.body.starts_with("paid") {
        bail!("the server {host} answered the call with {} {}", response.status, response.body);
    }
    Ok(response.body.trim().to_owned())
}

/// Asserts that the server rejects a call without a certificate or with a foreign one, and returns the rejection.
///
/// # Errors
/// When the server accepts the call, or rejects it for another reason.
pub fn assert_rejected(kubectl: &Kubectl<'_>, client: ClientCertificate, host: &str) -> Result<String> {
    let sentence = match client {
        ClientCertificate::None => "No required SSL certificate was sent",
        ClientCertificate::Foreign => "The SSL certificate error",
        ClientCertificate::Issued => bail!("a call with the issued certificate cannot be expected to fail"),
    };
    let response = call(kubectl, client, host)?;
    if response.status != 400 || !response.body.contains(sentence) {
        bail!(
            "the server should reject a call with client certificate {client:?} with 400 {sentence:?}, but answered {} {}",
            response.status,
            response.body
        );
    }
    Ok(format!("400 {sentence}"))
}

/// Creates a self-signed certificate with the names and key usages of the issued one. Returns the paths of the
/// certificate and the key.
fn create_foreign_certificate(kubectl: &Kubectl<'_>) -> Result<(String, String)> {
    let (key, certificate) =
        (format!("{FOREIGN_DIRECTORY}/foreign.key"), format!("{FOREIGN_DIRECTORY}/foreign.crt"));
    let openssl = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=foreign",
        "-addext",
        "extendedKeyUsage=clientAuth,serverAuth",
        "-addext",
        "subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/checkout",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    kubectl.exec("deployment/checkout", "shell", &openssl)?;
    Ok((certificate, key))
}
