//! Command line of `certmint`.

use certmint_contract::ErrorCode;
use certmint_contract::issuance::Failure;
use tokio::runtime::Builder;

use crate::logs::LogArgs;

/// Certificates for mutual TLS in Kubernetes: a certificate authority for the cluster, and the delivery to pods.
#[derive(Debug, clap::Parser)]
#[command(name = "certmint", version)]
pub struct Certmint {
    /// Flags of the log.
    #[command(flatten)]
    pub logs: LogArgs,
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, clap::Subcommand)]
enum Program {
    /// Answer admission reviews.
    Webhook(certmint_webhook::Args),
    /// Issue and renew certificates with the CA.
    Controller(certmint_controller::Args),
}

/// Installs the crypto provider of the process. Without one, rustls panics at the first connection.
///
/// # Errors
/// The process has a provider already.
pub fn install_crypto() -> Result<(), Failure> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| {
        Failure::new(ErrorCode::Internal, "another crypto provider is installed already; report it")
    })
}

impl Certmint {
    /// Runs the program until a signal stops it.
    ///
    /// # Errors
    /// The program ended with an error, which has a code.
    pub fn run(self) -> Result<(), Failure> {
        let Self { logs: _, program } = self;
        let runtime = match program {
            // The webhook answers a review in a small part of a millisecond. To wake another thread would take longer.
            Program::Webhook(_) => Builder::new_current_thread(),
            Program::Controller(_) => Builder::new_multi_thread(),
        }
        .enable_all()
        .build();
        let runtime = runtime.map_err(|why| {
            Failure::new(
                ErrorCode::InvalidSettings,
                format!("cannot start threads: {why}; raise the limits of this container"),
            )
        })?;
        runtime.block_on(async {
            match program {
                Program::Webhook(args) => certmint_webhook::run(args)
                    .await
                    .map_err(|error| Failure::new(error.code(), error.to_string())),
                Program::Controller(args) => certmint_controller::run(args)
                    .await
                    .map_err(|error| Failure::new(error.code(), error.to_string())),
            }
        })
    }
}
