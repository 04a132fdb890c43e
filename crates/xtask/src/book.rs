//! `cargo xtask book`: builds the book and checks its links.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use certmint_docs_tests::html_book;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::command;

/// Arguments of `cargo xtask book`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Open the book in a browser.
    #[arg(long)]
    open: bool,
    /// Directory for the book: an empty one, or one with an earlier book, which is replaced.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Builds the book, follows its links, and prints the path of the first page.
pub(crate) fn run(cache: &Cache, arguments: &Arguments) -> Result<()> {
    let Arguments { open, output } = arguments;
    let output = match output {
        // mdBook would resolve a relative path from `docs/`.
        Some(output) => std::path::absolute(output)?,
        None => html_book::default_output(cache),
    };
    let index = output.join("index.html");
    html_book::build(cache, &output)?;
    println!("{}", index.display());
    if *open {
        command::output(Command::new("xdg-open").arg(&index))?;
    }
    Ok(())
}
