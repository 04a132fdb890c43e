//! Runs the webhook: opens its two listeners, and follows the files of its key pair, trust bundle and policy.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use certmint_contract::ErrorCode;
use certmint_server::observability::Observability;
use certmint_server::{
    BindError, KeyPairFiles, Limits, PolicyFile, Server, ServingKeyPair, bind, files, shutdown,
};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::args::PodArgs;
use crate::{Admission, Args, Endpoint, Metrics};

/// Error that ends the webhook.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The webhook cannot listen on an address.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The process cannot receive signals.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// The TLS provider does not support TLS 1.3.
    #[error("cannot speak TLS 1.3: {0}")]
    Tls(#[from] certmint_server::TlsError),
}

impl RunError {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Listen(_) | Self::Signals(_) => ErrorCode::InvalidSettings,
            Self::Tls(_) => ErrorCode::NoServingCertificate,
        }
    }
}

/// Serves until SIGTERM or SIGINT, then finishes the requests in progress.
///
/// # Errors
/// A listener cannot be opened, the process cannot receive signals, or the TLS provider does not support TLS 1.3.
pub async fn run(args: Args) -> Result<(), RunError> {
    let Args { listen, health_listen, tls_dir, policy, last_valid_policy, pods } = args;
    let shutdown = shutdown::on_signal().map_err(RunError::Signals)?;
    let policy_file = PolicyFile { path: policy, last_valid: last_valid_policy };
    let Some(policy) = policy_file.wait_for_first(health_listen, &shutdown).await? else { return Ok(()) };
    let listener = bind(listen)?;
    let health = bind(health_listen)?;

    let key_pair = Arc::new(ServingKeyPair::default());
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry, Arc::clone(&key_pair));
    let admission = Arc::new(Admission::new(policy, metrics.clone()));

    let server = Server {
        handler: Endpoint(Arc::clone(&admission)),
        limits: Limits::default(),
        shutdown: shutdown.clone(),
    };
    let observability =
        Observability { registry: Arc::new(registry), ready: readiness(&key_pair, &admission) };
    tracing::info!(%listen, health = %health_listen, "webhook started");

    let files = KeyPairFiles { dir: tls_dir.clone() };
    let (served, (), (), (), ()) = tokio::join!(
        server.serve_tls(listener, Arc::clone(&key_pair)),
        observability.serve(health, shutdown.clone()),
        files.follow(key_pair, files::POLL_INTERVAL, shutdown.clone()),
        follow_trust_bundle(tls_dir.join("ca.crt"), &pods, &admission, shutdown.clone()),
        follow_policy(policy_file, &admission, &metrics, shutdown),
    );
    tracing::info!("webhook stopped");
    Ok(served?)
}

fn readiness(
    key_pair: &Arc<ServingKeyPair>,
    admission: &Arc<Admission>,
) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
    let (key_pair, admission) = (Arc::clone(key_pair), Arc::clone(admission));
    move || {
        key_pair.check_valid_at(SystemTime::now()).map_err(|error| error.to_string())?;
        admission.ready().map_err(|error| error.to_string())
    }
}

async fn follow_trust_bundle(
    file: PathBuf,
    pods: &PodArgs,
    admission: &Admission,
    shutdown: CancellationToken,
) {
    files::follow([file], files::POLL_INTERVAL, shutdown, |[pem]| match trust_bundle(pem) {
        Some(pem) => {
            admission.set_settings(pods.settings(pem));
            tracing::info!("trust bundle loaded");
        }
        None => {
            let code = ErrorCode::NoServingCertificate;
            tracing::error!(%code, "ca.crt of the webhook's Secret has no PEM certificate, the last valid trust bundle stays in use; delete the Secret, and the controller recreates it");
        }
    })
    .await;
}

fn trust_bundle(pem: Vec<u8>) -> Option<String> {
    String::from_utf8(pem).ok().filter(|pem| pem.contains("-----BEGIN CERTIFICATE-----"))
}

async fn follow_policy(
    file: PolicyFile,
    admission: &Admission,
    metrics: &Metrics,
    shutdown: CancellationToken,
) {
    file.follow(shutdown, |policy| {
        metrics.set_invalid_policy(policy.is_err());
        if let Ok(policy) = policy {
            admission.set_policy(policy);
            tracing::info!("policy loaded");
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use certmint_contract::Policy;

    use super::*;

    #[test]
    fn a_webhook_with_an_expired_certificate_is_not_ready() {
        let key_pair = Arc::new(ServingKeyPair::default());
        let metrics = Metrics::register(&mut Registry::default(), Arc::clone(&key_pair));
        let ready = readiness(&key_pair, &Arc::new(Admission::new(Policy::default(), metrics)));
        let mut params =
            rcgen::CertificateParams::new(["certmint-webhook.certmint-system.svc".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        key_pair.replace(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        assert!(ready().unwrap_err().contains("has expired"));
    }
}
