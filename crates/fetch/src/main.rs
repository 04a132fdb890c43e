//! `certmint-fetch [once | wait]`: see the library.

use certmint_fetch::command::Command;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(command) = Command::from_args(std::env::args().skip(1)) else {
        certmint_fetch::command::misused();
        return ExitCode::from(2);
    };
    if command.run() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
