//! Tests of the documentation: its commands run on a cluster, its links lead somewhere, and its generated sections are
//! what chart and code say.
//!
//! `cargo xtask book` and `cargo xtask reference` use this crate, and so do the scenarios that follow a page.

pub mod book;
mod document;
pub mod error_page;
pub mod html_book;
pub mod reference;
