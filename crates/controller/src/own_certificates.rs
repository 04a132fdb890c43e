//! Serving certificates of Certmint itself: the issuance API's, which is kept in memory, and the webhook's, which is
//! written to a Secret.

mod issuance_api;
mod webhook;

pub(crate) use issuance_api::keep_api_certificate;
pub(crate) use webhook::{WebhookCertificate, WebhookNames};

use certmint_certificates::{IssuedLeaf, LeafProfile};
use certmint_contract::spiffe::SpiffeError;
use certmint_contract::{DnsName, ErrorCode, KeyAlgorithm, Lifetime, Namespace, Policy, SpiffeId};
use certmint_server::KeyPairError;

use crate::api::ApiError;
use crate::issuer::{Issuer, IssuerError};

/// A Service of Certmint that serves TLS, and the service account of its pods.
#[derive(Clone, Debug)]
pub(crate) struct OwnService {
    /// Name of the Service.
    pub(crate) name: String,
    /// Service account of the Service's pods.
    pub(crate) service_account: String,
    /// Namespace of the Service and its pods.
    pub(crate) namespace: Namespace,
}

/// Error while a serving certificate is renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnCertificateError {
    /// The certificate could not be issued.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The service account has an invalid name.
    #[error(transparent)]
    Name(#[from] SpiffeError),
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A Secret with the same name was not created by Certmint.
    #[error("Secret {0} exists and was not created by Certmint, so Certmint does not change it; delete it")]
    ForeignSecret(String),
    /// The TLS server rejected the certificate.
    #[error(transparent)]
    Identity(#[from] KeyPairError),
}

impl OwnCertificateError {
    /// Returns the code under which the error is reported.
    fn code(&self) -> ErrorCode {
        match self {
            Self::Issuer(IssuerError::NoCa) => ErrorCode::CaUnavailable,
            Self::Issuer(IssuerError::Clock(_)) => ErrorCode::ClockDiffers,
            Self::Api(error) => error.code(),
            Self::ForeignSecret(_) => ErrorCode::ForeignSecret,
            Self::Issuer(IssuerError::CaIsBehind(_) | IssuerError::Signing(_))
            | Self::Name(_)
            | Self::Identity(_) => ErrorCode::NoServingCertificate,
        }
    }
}

impl OwnService {
    /// Returns the DNS names under which clients reach the Service.
    fn dns_names(&self, policy: &Policy) -> Vec<DnsName> {
        let short = format!("{}.{}.svc", self.name, self.namespace);
        let long = format!("{short}.{}", policy.cluster_domain);
        [short, long].iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// Issues a serving certificate.
    async fn issue(&self, issuer: &Issuer, lifetime: Lifetime) -> Result<IssuedLeaf, OwnCertificateError> {
        let policy = issuer.policy.borrow().clone();
        let spiffe_id = SpiffeId::new(&policy.trust_domain, &self.namespace, &self.service_account)?;
        let dns_names = self.dns_names(&policy);
        let profile = LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime };
        Ok(issuer.issue(&profile, KeyAlgorithm::EcdsaP256).await?.issued)
    }
}
