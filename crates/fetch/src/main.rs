//! `certmint-fetch [once | wait]`: see the library.

use certmint_fetch::command::Command;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = Command::from_args(std::env::args().skip(1));
    ExitCode::from(command.map_or_else(certmint_fetch::command::misused, Command::run))
}
