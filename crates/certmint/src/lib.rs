//! Command line of the server binary: `certmint webhook` and `certmint controller`.

pub mod command;
pub mod logs;
