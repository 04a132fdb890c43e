//! Certmint's own serving certificates: the issuance API's, in memory, and the webhook's, in its Secret.

mod api_identity;
mod webhook;

pub(crate) use api_identity::keep_api_identity;
pub(crate) use webhook::{WebhookCertificate, WebhookNames};

use crate::{
    api::ApiError,
    ca::Ca,
    clock::{Clock, ClockDiffers},
    random::{self, NoEntropy},
};
use certmint_certificates::{IssueError, Issued, KeyError, PrivateKey, Profile};
use certmint_contract::{
    DnsName, ErrorCode, KeyAlgorithm, Lifetime, Namespace, Policy, SpiffeId, spiffe::SpiffeError,
};

/// Who serves: a Service and the service account of its pods.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// The Service's name.
    pub(crate) service: String,
    /// The pods' service account.
    pub(crate) service_account: String,
    /// Where both are.
    pub(crate) namespace: Namespace,
}

/// Why there is no serving certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnCertificateError {
    /// There is no CA.
    #[error("there is no CA to sign it; see the line about the CA")]
    NoCa,
    /// The clock cannot be relied on.
    #[error(transparent)]
    Clock(#[from] ClockDiffers),
    /// The name of the Service or service account is none.
    #[error(transparent)]
    Name(#[from] SpiffeError),
    /// It could not be signed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Its key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There are no random numbers.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// It could not be read or written.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The Secret is somebody else's.
    #[error("Secret {0} exists and was not made by Certmint, so it stays as it is; remove it")]
    ForeignSecret(String),
    /// The TLS server does not take it.
    #[error(transparent)]
    Identity(#[from] certmint_server::KeyPairError),
}

impl OwnCertificateError {
    /// The code it is reported under.
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoCa => ErrorCode::CaUnavailable,
            Self::Clock(_) => ErrorCode::ClockDiffers,
            Self::Api(error) => error.code(),
            Self::ForeignSecret(_) => ErrorCode::ForeignSecret,
            Self::Name(_) | Self::Issue(_) | Self::Key(_) | Self::NoEntropy(_) | Self::Identity(_) => {
                ErrorCode::NoServingCertificate
            }
        }
    }
}

impl Server {
    /// The names by which it is called.
    fn dns_names(&self, policy: &Policy) -> Vec<DnsName> {
        let short = format!("{}.{}.svc", self.service, self.namespace);
        let long = format!("{short}.{}", policy.cluster_domain);
        [short, long].iter().filter_map(|name| name.parse().ok()).collect()
    }

    fn issue(
        &self,
        ca: &Ca,
        policy: &Policy,
        lifetime: Lifetime,
        clock: &Clock,
    ) -> Result<Issued, OwnCertificateError> {
        let authority = ca.authority.as_ref().map_err(|_| OwnCertificateError::NoCa)?;
        let spiffe_id = SpiffeId::new(&policy.trust_domain, &self.namespace, &self.service_account)?;
        let dns_names = self.dns_names(policy);
        let profile = Profile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime };
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
        Ok(authority.issue(&profile, &key, random::serial()?, clock.trusted_now()?)?)
    }
}
