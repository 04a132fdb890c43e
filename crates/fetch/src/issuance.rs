//! The client of the issuance API. [`certmint_contract::issuance`] documents the wire format.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certmint_contract::issuance::{BUNDLE_PATH, Bundle, Failure, MAX_RESPONSE_BYTES, MAX_TOKEN_BYTES};
use certmint_contract::{DnsName, rfc3339_of_seconds};
use rustls::CertificateError;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use crate::http::client;
use crate::resolver::{NotResolved, ServiceResolver};
use crate::trust::TrustAnchors;

/// Timeout from the look-up of the name to the last byte of the answer. The controller answers within milliseconds. If it
/// does not, a retry is better, because another replica may get the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Reason why the issuance API returned no bundle.
#[derive(Debug, thiserror::Error)]
pub enum IssuanceError {
    /// The token cannot be read.
    #[error(
        "the service account token {path} cannot be read: {source}; the kubelet puts it there, see the pod's events"
    )]
    Token {
        /// File of the token.
        path: PathBuf,
        /// Error of the file system.
        source: io::Error,
    },
    /// The certificate of the server does not chain to a trust anchor, or is not for this name.
    #[error(
        "{api} did not prove to be the issuance API: {cause}. If the CA was replaced, restart the workload (kubectl rollout restart) to have the new roots injected; otherwise check which server answers at that address"
    )]
    Untrusted {
        /// Origin of the API.
        api: Uri,
        /// Error of the verification.
        cause: Box<CertificateError>,
    },
    /// The certificate of the server is not valid at the time of this node's clock.
    #[error(
        "{api} shows a certificate that is not valid now: {cause}. Correct the clock of this pod's node if it is wrong, otherwise see the log of the certmint controller"
    )]
    Untimely {
        /// Origin of the API.
        api: Uri,
        /// Start or end of validity, as a sentence.
        cause: String,
    },
    /// The name of the server has no address.
    #[error(
        "the DNS of this pod does not resolve the name of {api} ({cause}); the pod's name server must know the Services of the cluster: set dnsPolicy ClusterFirst, or ClusterFirstWithHostNet with hostNetwork, or with dnsPolicy None list the cluster's name server in dnsConfig. If the pod has it, check that the cluster's DNS runs and has this Service"
    )]
    Unresolved {
        /// Origin of the API.
        api: Uri,
        /// Error of the resolver.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server did not answer.
    #[error(
        "{api} cannot be reached: {cause}; check that the certmint controller runs and that no NetworkPolicy is in the way"
    )]
    Unreachable {
        /// Origin of the API.
        api: Uri,
        /// Error of the HTTP client.
        cause: Box<ureq::Error>,
    },
    /// The answer does not have the format of the issuance API.
    #[error(
        "{api} answered {status}, but not in the format of the issuance API; check what CERTMINT_API points to"
    )]
    NotUnderstood {
        /// Origin of the API.
        api: Uri,
        /// HTTP status of the answer.
        status: u16,
    },
    /// The issuance API rejected the request.
    #[error("{}", .0.message)]
    Rejected(Failure),
}

/// Address of the issuance API.
#[derive(Clone, Copy, Debug)]
pub struct IssuanceApi<'a> {
    /// Origin, `https://HOST:PORT`.
    pub origin: &'a Uri,
    /// DNS domain of the cluster, if the pod's environment has it.
    pub cluster_domain: Option<&'a DnsName>,
}

/// Requests the bundle of this pod once.
///
/// # Errors
/// When the API returns no bundle. [`IssuanceError::Rejected`] contains the message of the API.
pub fn request_bundle(
    api: IssuanceApi<'_>,
    token: &Path,
    anchors: &TrustAnchors,
) -> Result<Bundle, IssuanceError> {
    let resolver = ServiceResolver { cluster_domain: api.cluster_domain.cloned() };
    let api = api.origin;
    // Each attempt reads the token, because the kubelet replaces it before it expires.
    let authorization = read_authorization(token)?;
    let roots: Vec<_> = anchors.roots().map(|root| Certificate::from_der(root).to_owned()).collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots)));
    let url = format!("{}{BUNDLE_PATH}", api.to_string().trim_end_matches('/'));
    let failed = |cause| error_of(api, cause);
    let mut response = client(tls, REQUEST_TIMEOUT, resolver)
        .post(&url)
        .header("authorization", authorization.as_str())
        .send_empty()
        .map_err(failed)?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES as u64).read_to_vec();
    parse_answer(api, status, &Zeroizing::new(body.map_err(failed)?))
}

/// Reads the projected token, as the value of the header `Authorization`.
pub(crate) fn read_authorization(path: &Path) -> Result<Zeroizing<String>, IssuanceError> {
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

/// Parses an answer of the API.
///
/// # Errors
/// When the API rejected the request, or the answer has another format.
pub fn parse_answer(api: &Uri, status: u16, body: &[u8]) -> Result<Bundle, IssuanceError> {
    let not_understood = |_| IssuanceError::NotUnderstood { api: api.clone(), status };
    if status == 200 {
        return serde_json::from_slice(body).map_err(not_understood);
    }
    Err(IssuanceError::Rejected(serde_json::from_slice(body).map_err(not_understood)?))
}

fn error_of(api: &Uri, cause: ureq::Error) -> IssuanceError {
    let api = api.clone();
    if let Some(verification) = certificate_error(&cause) {
        return match untimely(&verification) {
            Some(cause) => IssuanceError::Untimely { api, cause },
            None => IssuanceError::Untrusted { api, cause: Box::new(verification) },
        };
    }
    match cause {
        // The client passes on the error of [`ServiceResolver`] as an I/O error.
        ureq::Error::Io(io) => match io.downcast::<NotResolved>() {
            Ok(cause) => IssuanceError::Unresolved { api, cause: Box::new(cause) },
            Err(io) => IssuanceError::Unreachable { api, cause: Box::new(ureq::Error::Io(io)) },
        },
        cause => IssuanceError::Unreachable { api, cause: Box::new(cause) },
    }
}

/// Returns a sentence about the validity period if the verification rejects it. The library's own message shows times in
/// seconds since 1970.
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

/// Returns the error of the certificate verification, which the client wraps in an I/O error.
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
