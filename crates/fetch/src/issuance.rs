//! Asks the issuance API for the bundle (`certmint_contract::issuance` has the wire).

use crate::http::client;
use crate::resolver::{NotResolved, ServiceResolver};
use crate::trust::TrustAnchors;
use certmint_contract::DnsName;
use certmint_contract::issuance::{BUNDLE_PATH, Bundle, Failure, MAX_RESPONSE_BYTES, MAX_TOKEN_BYTES};
use certmint_contract::rfc3339_of_seconds;
use rustls::CertificateError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use zeroize::Zeroizing;

/// From the look-up of the name to the last byte. The controller answers within milliseconds; one that does
/// not is better asked again, because another replica may get the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the API gave no bundle.
#[derive(Debug, thiserror::Error)]
pub enum IssuanceError {
    /// The token is not there.
    #[error(
        "the service account token {path} cannot be read: {source}; the kubelet puts it there, see the pod's events"
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server is not one that our roots vouch for.
    #[error(
        "{api} did not prove to be the issuance API: {cause}. If the CA was replaced, restart the workload (kubectl rollout restart) to have the new roots injected; otherwise find out who answers at that address"
    )]
    Untrusted {
        /// The API's origin.
        api: Uri,
        /// What the verification said.
        cause: Box<CertificateError>,
    },
    /// The server's certificate is not valid at this node's time.
    #[error(
        "{api} shows a certificate that is not valid now: {cause}. Correct the clock of this pod's node if it is wrong, otherwise see the log of the certmint controller"
    )]
    Untimely {
        /// The API's origin.
        api: Uri,
        /// Since when, or until when.
        cause: String,
    },
    /// The name has no address.
    #[error(
        "the DNS of this pod does not resolve the name of {api} ({cause}); the pod's name server must know the Services of the cluster: set dnsPolicy ClusterFirst, or ClusterFirstWithHostNet with hostNetwork, or with dnsPolicy None list the cluster's name server in dnsConfig. If the pod has it, check that the cluster's DNS runs and has this Service"
    )]
    Unresolved {
        /// The API's origin.
        api: Uri,
        /// What the resolver said.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer.
    #[error(
        "{api} cannot be reached: {cause}; check that the certmint controller runs and that no NetworkPolicy is in the way"
    )]
    Unreachable {
        /// The API's origin.
        api: Uri,
        /// What the client said.
        cause: Box<ureq::Error>,
    },
    /// An answer that is none of the API's.
    #[error(
        "{api} answered {status} with something that is no answer of the issuance API; check what CERTMINT_API points to"
    )]
    NotUnderstood {
        /// The API's origin.
        api: Uri,
        /// The status.
        status: u16,
    },
    /// The API's own refusal.
    #[error("{}", .0.message)]
    Refused(Failure),
}

/// Where the issuance API is.
#[derive(Clone, Copy, Debug)]
pub struct Api<'a> {
    /// Its origin.
    pub origin: &'a Uri,
    /// The cluster's DNS domain, when it is told.
    pub cluster_domain: Option<&'a DnsName>,
}

/// Asks once.
///
/// # Errors
/// What went wrong; [`IssuanceError::Refused`] carries the API's own words.
pub fn request_bundle(api: Api<'_>, token: &Path, anchors: &TrustAnchors) -> Result<Bundle, IssuanceError> {
    let resolver = ServiceResolver { cluster_domain: api.cluster_domain.cloned() };
    let api = api.origin;
    // Read at each attempt: the kubelet replaces it, and one from before a restart may have expired.
    let authorization = read_token(token)?;
    let roots: Vec<_> = anchors.roots().map(|root| Certificate::from_der(root).to_owned()).collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots)));
    let url = format!("{}{BUNDLE_PATH}", api.to_string().trim_end_matches('/'));
    let failed = |cause| failure_of(api, cause);
    let mut response = client(tls, REQUEST_TIMEOUT, resolver)
        .post(&url)
        .header("authorization", authorization.as_str())
        .send_empty()
        .map_err(failed)?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES as u64).read_to_vec();
    parse_answer(api, status, &Zeroizing::new(body.map_err(failed)?))
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, IssuanceError> {
    let read = || {
        let mut text = Zeroizing::new(String::new());
        io::Read::read_to_string(
            &mut io::Read::take(std::fs::File::open(path)?, MAX_TOKEN_BYTES as u64),
            &mut text,
        )?;
        Ok(Zeroizing::new(format!("Bearer {}", text.trim())))
    };
    read().map_err(|source| IssuanceError::Token { path: path.to_owned(), source })
}

/// Reads what the API answered with.
///
/// # Errors
/// The API's refusal, or that the answer is none of the API's.
pub fn parse_answer(api: &Uri, status: u16, body: &[u8]) -> Result<Bundle, IssuanceError> {
    let not_understood = |_| IssuanceError::NotUnderstood { api: api.clone(), status };
    if status == 200 {
        return serde_json::from_slice(body).map_err(not_understood);
    }
    Err(IssuanceError::Refused(serde_json::from_slice(body).map_err(not_understood)?))
}

fn failure_of(api: &Uri, cause: ureq::Error) -> IssuanceError {
    let api = api.clone();
    let cause = match not_resolved(cause) {
        Ok(cause) => return IssuanceError::Unresolved { api, cause: Box::new(cause) },
        Err(other) => other,
    };
    let Some(verification) = certificate_error(&cause) else {
        return IssuanceError::Unreachable { api, cause: Box::new(cause) };
    };
    match untimely(&verification) {
        Some(cause) => IssuanceError::Untimely { api, cause },
        None => IssuanceError::Untrusted { api, cause: Box::new(verification) },
    }
}

/// What is wrong with the certificate's time, if that is the fault. The verification's own words count seconds since 1970.
fn untimely(cause: &CertificateError) -> Option<String> {
    match cause {
        CertificateError::Expired => Some("it has expired".into()),
        CertificateError::ExpiredContext { not_after, .. } => {
            Some(format!("it expired at {}", rfc3339_of_seconds(not_after.as_secs())))
        }
        CertificateError::NotValidYet => Some("it is not valid yet".into()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(format!("it is valid from {} only", rfc3339_of_seconds(not_before.as_secs())))
        }
        _ => None,
    }
}

/// The resolver's words, which the client hands on as an I/O error; otherwise the same error.
fn not_resolved(error: ureq::Error) -> Result<NotResolved, ureq::Error> {
    match error {
        ureq::Error::Io(io) => io.downcast().map_err(ureq::Error::Io),
        other => Err(other),
    }
}

/// The verification's words, which the client wraps in an I/O error.
fn certificate_error(error: &ureq::Error) -> Option<CertificateError> {
    let tls = match error {
        ureq::Error::Rustls(tls) => tls,
        ureq::Error::Io(io) => io.get_ref()?.downcast_ref::<rustls::Error>()?,
        _ => return None,
    };
    match tls {
        rustls::Error::InvalidCertificate(cause) => Some(cause.clone()),
        _ => None,
    }
}
