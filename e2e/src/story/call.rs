//! One call of the payment service with curl, from the checkout pod.

use anyhow::{Context as _, Result, bail};
use certmint_local_cluster::kubectl::Kubectl;

/// Where Certmint puts the files.
const TLS: &str = "/var/run/secrets/certmint.dev";
/// Where the checkout pod keeps what it made itself.
const OWN: &str = "/tmp";

/// What the caller shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The certificate that Certmint gave it.
    Certified,
    /// None.
    Anonymous,
    /// One that it signed itself, with the right names.
    Stranger,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Calls `https://HOST/`, trusting only our CA.
///
/// # Errors
/// When there is no answer, for example because the server's certificate is not for that host.
pub fn call(kubectl: &Kubectl<'_>, caller: Caller, host: &str) -> Result<Answer> {
    let key_pair = match caller {
        Caller::Certified => Some((format!("{TLS}/tls.crt"), format!("{TLS}/tls.key"))),
        Caller::Anonymous => None,
        Caller::Stranger => Some(make_stranger(kubectl)?),
    };
    let (roots, url) = (format!("{TLS}/ca.crt"), format!("https://{host}/"));
    let mut curl = vec!["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", &roots];
    if let Some((certificate, key)) = &key_pair {
        curl.extend(["--cert", certificate, "--key", key]);
    }
    curl.extend(["--write-out", "\n%{http_code}", &url]);
    let printed = kubectl.exec("deployment/checkout", "shell", &curl)?;
    let (body, status) = printed.rsplit_once('\n').context("curl printed no status")?;
    Ok(Answer { status: status.trim().parse().context("curl printed no status")?, body: body.to_owned() })
}

/// Calls with the caller's certificate, which must succeed.
///
/// # Errors
/// When it does not.
pub fn succeeds(kubectl: &Kubectl<'_>, host: &str) -> Result<String> {
    let answer = call(kubectl, Caller::Certified, host)?;
    if answer.status != 200 || !answer.body.starts_with("paid") {
        bail!("the call of {host} was answered {} {}", answer.status, answer.body);
    }
    Ok(answer.body.trim().to_owned())
}

/// Calls in a way that must be refused, and returns the server's sentence.
///
/// # Errors
/// When it is not refused, or for another reason.
pub fn refused(kubectl: &Kubectl<'_>, caller: Caller, host: &str) -> Result<String> {
    let sentence = match caller {
        Caller::Anonymous => "No required SSL certificate was sent",
        Caller::Stranger => "The SSL certificate error",
        Caller::Certified => bail!("a certified caller is not to be refused"),
    };
    let answer = call(kubectl, caller, host)?;
    if answer.status != 400 || !answer.body.contains(sentence) {
        bail!("{caller:?} should be refused with 400 {sentence:?}, got {} {}", answer.status, answer.body);
    }
    Ok(format!("400 {sentence}"))
}

/// A certificate with the names and uses of the real one, but from nobody's CA.
fn make_stranger(kubectl: &Kubectl<'_>) -> Result<(String, String)> {
    let (key, certificate) = (format!("{OWN}/stranger.key"), format!("{OWN}/stranger.crt"));
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
        "/CN=stranger",
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
