//! `certmint-fetch`: puts the certificate in place before anything else in the pod starts, then keeps it fresh.
//!
//! One process, one thread once the files are in place, blocking calls: it sleeps nearly always, and every pod pays for its memory.

pub mod acquire;
pub mod atomic_dir;
pub mod command;
pub mod delivery;
pub mod error;
mod http;
pub mod issuance;
pub mod probe;
pub mod publication;
pub mod reload;
pub mod reload_mark;
pub mod report;
mod resolver;
pub mod settings;
pub mod sidecar;
pub mod state;
pub mod trust;
pub mod wait;
