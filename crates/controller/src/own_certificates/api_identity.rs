//! The issuance API's certificate: each replica has its own, and its key is never written anywhere.

use super::{OwnCertificateError, Server};
use crate::{
    ca::Ca,
    clock::{self, Clock},
};
use certmint_contract::{Lifetime, Policy, lifetime::renew_at, rfc3339};
use certmint_server::ServingKeyPair;
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::watch;

/// A day: a restart makes a new one anyway.
const LIFETIME: Lifetime = Lifetime::from_seconds(86_400);
/// How often the clock is asked whether it is time.
const PACE: Duration = Duration::from_secs(10);

/// Keeps an identity fresh: at 2/3 of its life, and when CA or policy change. Never returns.
pub(crate) async fn keep_api_identity(
    identity: Arc<ServingKeyPair>,
    server: Server,
    clock: Clock,
    mut ca: watch::Receiver<Ca>,
    mut policy: watch::Receiver<Arc<Policy>>,
) {
    let mut due = None::<OffsetDateTime>;
    loop {
        if due.is_none_or(|due| clock::now() >= due) {
            let (ca, policy) = (ca.borrow_and_update().clone(), policy.borrow_and_update().clone());
            match replace(&identity, &server, &clock, &ca, &policy) {
                Ok(next) => due = Some(next),
                // Whoever looks after the CA tells of both.
                Err(OwnCertificateError::NoCa | OwnCertificateError::Clock(_)) => {}
                Err(error) => {
                    tracing::error!(code = %error.code(), %error, "the issuance API has no new certificate; this is tried again");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PACE) => {}
            Ok(()) = ca.changed() => due = None,
            Ok(()) = policy.changed() => due = None,
        }
    }
}

fn replace(
    identity: &ServingKeyPair,
    server: &Server,
    clock: &Clock,
    ca: &Ca,
    policy: &Policy,
) -> Result<OffsetDateTime, OwnCertificateError> {
    let issued = server.issue(ca, policy, LIFETIME, clock)?;
    identity.replace(issued.bundle.certificate.as_bytes(), issued.bundle.private_key.as_bytes())?;
    let facts = &issued.facts;
    tracing::info!(
        serial = facts.serial,
        not_after = rfc3339(facts.not_after),
        "the issuance API has a new certificate"
    );
    Ok(renew_at(facts.not_before, facts.not_after, 0))
}
