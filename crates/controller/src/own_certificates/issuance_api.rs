//! Keeps the issuance API's certificate valid. Each replica has its own certificate and key, and keeps them in memory
//! only.

use std::sync::Arc;
use std::time::Duration;

use certmint_contract::lifetime::renew_at;
use certmint_contract::{Lifetime, rfc3339};
use certmint_server::ServingKeyPair;
use time::OffsetDateTime;

use super::{OwnCertificateError, OwnService};
use crate::clock;
use crate::issuer::{Issuer, IssuerError};

/// Lifetime of the certificate: one day. A restart issues a new one anyway.
const LIFETIME: Lifetime = Lifetime::from_seconds(86_400);
/// Interval at which the renewal time is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Renews the certificate after two thirds of its lifetime, and when the CA or the policy changes. Never returns.
pub(crate) async fn keep_api_certificate(key_pair: Arc<ServingKeyPair>, service: OwnService, issuer: Issuer) {
    let (mut ca, mut policy) = (issuer.ca.clone(), issuer.policy.clone());
    let mut renewal = None::<OffsetDateTime>;
    loop {
        if renewal.is_none_or(|renewal| clock::now() >= renewal) {
            ca.mark_unchanged();
            policy.mark_unchanged();
            match renew(&key_pair, &service, &issuer).await {
                Ok(next) => renewal = Some(next),
                // The CA's keeper reports these two errors.
                Err(OwnCertificateError::Issuer(IssuerError::NoCa | IssuerError::Clock(_))) => {}
                Err(error) => {
                    tracing::error!(code = %error.code(), %error, "could not renew the certificate of the issuance API; the controller retries");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
            Ok(()) = ca.changed() => renewal = None,
            Ok(()) = policy.changed() => renewal = None,
        }
    }
}

/// Issues a certificate and passes it to the TLS server. Returns the time of the next renewal.
async fn renew(
    key_pair: &ServingKeyPair,
    service: &OwnService,
    issuer: &Issuer,
) -> Result<OffsetDateTime, OwnCertificateError> {
    let issued = service.issue(issuer, LIFETIME).await?;
    key_pair.replace(issued.bundle.certificate.as_bytes(), issued.bundle.private_key.as_bytes())?;
    let facts = &issued.facts;
    tracing::info!(
        serial = facts.serial,
        not_after = rfc3339(facts.not_after),
        "renewed the certificate of the issuance API"
    );
    Ok(renew_at(facts.not_before, facts.not_after, 0))
}
