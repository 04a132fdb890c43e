//! Tests of the documentation: its commands are run on a cluster, its links are followed, and its generated
//! sections are compared with chart and code.
//!
//! `cargo xtask book`, `cargo xtask reference` and the scenarios that follow a page use this crate.

pub mod book;
pub mod error_page;
mod generated_section;
pub mod html_book;
pub mod reference;

pub use self::generated_section::GeneratedSection;
