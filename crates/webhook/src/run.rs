//! Runs the webhook: opens its two listeners, and follows the files of its key pair, trust bundle and policy.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use certmint_contract::pod_layout::{TRUST_BUNDLE_FILE, TRUST_GENERATION_FILE};
use certmint_contract::{ErrorCode, TrustBundle, TrustGeneration};
use certmint_server::observability::Observability;
use certmint_server::{
    BindError, KeyPairFiles, Limits, MountedFile, PolicyFile, Server, ServingKeyPair, bind, files, shutdown,
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
        follow_trust_bundle(&tls_dir, &pods, &admission, shutdown.clone()),
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
    tls_dir: &Path,
    pods: &PodArgs,
    admission: &Admission,
    shutdown: CancellationToken,
) {
    // The generation is read first. If the kubelet replaces the files between the two reads, the webhook uses newer roots
    // with the older generation until the next read. The other way round, pods would believe that older roots are newer.
    let files = [
        MountedFile::Optional(tls_dir.join(TRUST_GENERATION_FILE)),
        MountedFile::Required(tls_dir.join(TRUST_BUNDLE_FILE)),
    ];
    files::follow(files, files::POLL_INTERVAL, shutdown, |[generation, roots]| match trust_bundle(generation, roots) {
        Some(trust_bundle) => {
            tracing::info!(generation = %trust_bundle.generation, "trust bundle loaded");
            admission.set_settings(pods.settings(trust_bundle));
        }
        None => {
            let code = ErrorCode::NoServingCertificate;
            tracing::error!(%code, "ca.crt of the webhook's Secret has no PEM certificate, or its trust-generation is not a number, so the last valid trust bundle stays in use; delete the Secret, and the controller recreates it");
        }
    })
    .await;
}

/// Parses the files of the trust bundle. The controller of version 0.1.0 writes no generation, and then its file is
/// empty.
fn trust_bundle(generation: Vec<u8>, roots: Vec<u8>) -> Option<TrustBundle> {
    let generation = String::from_utf8(generation).ok()?;
    let generation =
        TrustGeneration::parse_optional(Some(&*generation).filter(|text| !text.is_empty())).ok()?;
    let roots = String::from_utf8(roots).ok().filter(|pem| pem.contains("-----BEGIN CERTIFICATE-----"))?;
    Some(TrustBundle { roots, generation })
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
    fn the_trust_bundle_of_version_0_1_0_has_the_first_generation() {
        const ROOTS: &str = "-----BEGIN CERTIFICATE-----\n";
        let parsed = |generation: &str| trust_bundle(generation.into(), ROOTS.into());
        assert_eq!(parsed(""), Some(TrustBundle::first(ROOTS)));
        let second = TrustBundle { generation: TrustGeneration::FIRST.next(), ..TrustBundle::first(ROOTS) };
        assert_eq!(parsed("2"), Some(second));
        assert_eq!(parsed("two"), None);
        assert_eq!(trust_bundle("2".into(), "banana".into()), None);
    }

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
