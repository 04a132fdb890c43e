//! The server binary: webhook and controller.

mod command;
mod logs;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    command::install_crypto()?;
    let command = command::Certmint::parse();
    logs::start(&command.logs);
    command.run()
}
