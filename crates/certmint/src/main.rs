//! The server binary: webhook and controller.

use certmint::{command, logs};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = command::Certmint::parse();
    logs::start(&command.logs);
    match command::install_crypto().and_then(|()| command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        // The last line of the log stands in `kubectl describe pod` as the termination message.
        Err(failure) => {
            tracing::error!(code = %failure.code, "{}", failure.message);
            ExitCode::FAILURE
        }
    }
}
