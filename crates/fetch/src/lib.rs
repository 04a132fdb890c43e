//! The program `certmint-fetch`: puts the certificate in place before the app starts, and then keeps it valid.
//!
//! It is one process with blocking calls, and with one thread once the files are in place. Every pod runs one, so its
//! memory counts, and it sleeps nearly all the time.

pub mod acquire;
pub mod command;
pub mod delivery;
pub mod error;
mod http;
pub mod issuance;
pub mod probe;
pub mod reload;
pub mod renewal;
pub mod report;
mod resolver;
pub mod settings;
pub mod spread;
pub mod state;
pub mod trust;
pub mod volume;
pub mod wait;
