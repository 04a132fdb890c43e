//! The running webhook: two listeners and three files that are followed.

use crate::args::PodArgs;
use crate::{Admission, Args, Endpoint, Metrics};
use certmint_contract::ErrorCode;
use certmint_server::observability::Observability;
use certmint_server::{
    BindError, Identity, IdentityFiles, Limits, PolicyFile, Server, bind, files, shutdown,
};
use prometheus_client::registry::Registry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tokio_util::sync::CancellationToken;

/// Why the webhook does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address is not to be had.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// The TLS provider is not usable.
    #[error("cannot speak TLS 1.3: {0}")]
    Tls(#[from] certmint_server::TlsError),
}

impl RunError {
    /// The code it is reported under.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Listen(_) | Self::Signals(_) => ErrorCode::InvalidSettings,
            Self::Tls(_) => ErrorCode::NoServingCertificate,
        }
    }
}

/// Serves until SIGTERM or SIGINT, then ends what is under way.
///
/// # Errors
/// When a listener cannot be opened.
pub async fn run(args: Args) -> Result<(), RunError> {
    let Args { listen, health_listen, tls_dir, policy, last_valid_policy, pods } = args;
    let shutdown = shutdown::on_signal().map_err(RunError::Signals)?;
    let policy_file = PolicyFile { path: policy, last_valid: last_valid_policy };
    let Some(policy) = policy_file.wait_for_first(health_listen, &shutdown).await? else { return Ok(()) };
    let listener = bind(listen)?;
    let health = bind(health_listen)?;

    let identity = Arc::new(Identity::default());
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry, Arc::clone(&identity));
    let admission = Arc::new(Admission::new(policy, metrics.clone()));

    let server = Server {
        handler: Endpoint(Arc::clone(&admission)),
        limits: Limits::default(),
        shutdown: shutdown.clone(),
    };
    let observability =
        Observability { registry: Arc::new(registry), ready: readiness(&identity, &admission) };
    tracing::info!(%listen, health = %health_listen, "webhook started");

    let files = IdentityFiles { dir: tls_dir.clone() };
    let (served, (), (), (), ()) = tokio::join!(
        server.serve_tls(listener, Arc::clone(&identity)),
        observability.serve(health, shutdown.clone()),
        files.follow(identity, files::INTERVAL, shutdown.clone()),
        follow_trust_bundle(tls_dir.join("ca.crt"), &pods, &admission, shutdown.clone()),
        follow_policy(policy_file, &admission, &metrics, shutdown),
    );
    tracing::info!("webhook ended");
    Ok(served?)
}

fn readiness(
    identity: &Arc<Identity>,
    admission: &Arc<Admission>,
) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
    let (identity, admission) = (Arc::clone(identity), Arc::clone(admission));
    move || {
        identity.serves(SystemTime::now()).map_err(|missing| missing.to_string())?;
        admission.ready().map_err(|missing| missing.to_string())
    }
}

async fn follow_trust_bundle(
    file: PathBuf,
    pods: &PodArgs,
    admission: &Admission,
    shutdown: CancellationToken,
) {
    files::follow([file], files::INTERVAL, shutdown, |[pem]| match trust_bundle(pem) {
        Some(pem) => {
            admission.set_settings(pods.settings(pem));
            tracing::info!("trust bundle loaded");
        }
        None => {
            let code = ErrorCode::NoServingCertificate;
            tracing::error!(%code, "ca.crt of the webhook's Secret holds no PEM certificate, the last good one stays; delete the Secret to have it made again");
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
        metrics.policy_rejected(policy.is_err());
        if let Ok(policy) = policy {
            admission.set_policy(policy);
            tracing::info!("policy loaded");
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use certmint_contract::Policy;

    #[test]
    fn a_webhook_whose_certificate_has_ended_is_not_ready() {
        let identity = Arc::new(Identity::default());
        let metrics = Metrics::register(&mut Registry::default(), Arc::clone(&identity));
        let ready = readiness(&identity, &Arc::new(Admission::new(Policy::default(), metrics)));
        let mut params =
            rcgen::CertificateParams::new(["certmint-webhook.certmint-system.svc".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        identity.replace(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        assert!(ready().unwrap_err().contains("has ended"));
    }
}
