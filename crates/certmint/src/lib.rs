//! The server binary's command line: `certmint webhook`, `certmint controller`.

pub mod command;
pub mod logs;
