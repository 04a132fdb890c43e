//! The program `certmint-fetch`: puts the certificate in place before the app starts, and then keeps it valid.
//!
//! Every injected pod runs this process, so it needs little memory and sleeps nearly all the time. It uses blocking
//! calls, and only one thread after the files are in place.

pub mod acquire;
pub mod command;
pub mod delivery;
pub mod error;
mod http;
pub mod issuance;
pub mod probe;
pub mod reload;
pub mod reload_delay;
pub mod renewal;
pub mod report;
mod resolver;
pub mod settings;
pub mod state;
pub mod trust;
pub mod volume;
pub mod wait;
