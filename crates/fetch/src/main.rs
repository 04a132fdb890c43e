//! The program `certmint-fetch [once | wait]`; see the library.

use std::process::ExitCode;

use certmint_fetch::command::{self, FetchCommand};

fn main() -> ExitCode {
    let command = FetchCommand::from_args(std::env::args().skip(1));
    ExitCode::from(command.map_or_else(command::report_misuse, FetchCommand::run))
}
