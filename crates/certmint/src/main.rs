//! Server binary: webhook and controller.

use std::process::ExitCode;

use certmint::{command, logs};
use clap::Parser;

fn main() -> ExitCode {
    let command = command::Certmint::parse();
    logs::start(&command.logs);
    match command::install_crypto().and_then(|()| command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        // The kubelet shows the last line of the log as the termination message in `kubectl describe pod`.
        Err(failure) => {
            tracing::error!(code = %failure.code, "{}", failure.message);
            ExitCode::FAILURE
        }
    }
}
