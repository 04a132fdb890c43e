//! Watches, executes plans, serves the issuance API.
