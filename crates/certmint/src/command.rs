//! The command line.

use crate::logs::LogArgs;
use anyhow::{Context, anyhow};
use tokio::runtime::Builder;

/// The cluster's own certificate authority with its delivery.
#[derive(Debug, clap::Parser)]
#[command(name = "certmint", version)]
pub(crate) struct Certmint {
    #[command(flatten)]
    pub(crate) logs: LogArgs,
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
pub(crate) fn install_crypto() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("another crypto provider is installed already"))
}

impl Certmint {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self { logs: _, part } = self;
        let runtime = Builder::new_multi_thread().enable_all().build().context("no threads to be had")?;
        runtime.block_on(async {
            match part {
                Part::Webhook(args) => certmint_webhook::run(args).await?,
                Part::Controller(args) => certmint_controller::run(args).await?,
            }
            Ok(())
        })
    }
}
