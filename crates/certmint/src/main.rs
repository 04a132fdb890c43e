//! The server binary: webhook and controller.

use certmint::{command, logs};
use clap::Parser;
use dlmalloc::GlobalDlmalloc;
use std::process::ExitCode;

/// musl's own gives a request's buffers back to the system with each answer, and asks for them again with the next
/// request: more than a third of a review's time.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

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
