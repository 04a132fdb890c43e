//! The command line.

use crate::logs::LogArgs;
use certmint_contract::{ErrorCode, issuance::Failure};
use tokio::runtime::Builder;

/// The cluster's own certificate authority with its delivery.
#[derive(Debug, clap::Parser)]
#[command(name = "certmint", version)]
pub struct Certmint {
    #[command(flatten)]
    /// How the process logs.
    pub logs: LogArgs,
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Answer admission reviews.
    Webhook(certmint_webhook::Args),
    /// Hold the CA, issue and renew.
    Controller(certmint_controller::Args),
}

/// One provider for the process: rustls panics at the first connection without one.
///
/// # Errors
/// When there is one already.
pub fn install_crypto() -> Result<(), Failure> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| failure(ErrorCode::Internal, "another crypto provider is installed already; report it"))
}

impl Certmint {
    /// Runs the part that was asked for, until it is told to stop.
    ///
    /// # Errors
    /// What ended it, with its code.
    pub fn run(self) -> Result<(), Failure> {
        let Self { logs: _, part } = self;
        let runtime = match part {
            // A review takes a small part of a millisecond: to wake another thread for it costs more than it brings.
            Part::Webhook(_) => Builder::new_current_thread(),
            Part::Controller(_) => Builder::new_multi_thread(),
        }
        .enable_all()
        .build();
        let runtime = runtime.map_err(|why| {
            failure(
                ErrorCode::InvalidSettings,
                format!("cannot start threads: {why}; raise the limits of this container"),
            )
        })?;
        runtime.block_on(async {
            match part {
                Part::Webhook(args) => certmint_webhook::run(args)
                    .await
                    .map_err(|error| failure(error.code(), error.to_string())),
                Part::Controller(args) => certmint_controller::run(args)
                    .await
                    .map_err(|error| failure(error.code(), error.to_string())),
            }
        })
    }
}

fn failure(code: ErrorCode, message: impl Into<String>) -> Failure {
    Failure { code, message: message.into() }
}
