//! The parts of the documentation that are written from code: values and rights from the chart, flags from the program.
//!
//! Other reference pages are written by hand and compared with the code by the tests of the crate that they describe.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::cache::Cache;
use crate::{book, charts, command, progress};

/// A file whose end, from a heading on, is written here.
pub(crate) struct Document {
    /// From the repository's root.
    pub(crate) path: &'static str,
    /// With the line breaks around it.
    pub(crate) heading: &'static str,
    /// What stands after it.
    pub(crate) rest: String,
}

/// Writes every document anew.
///
/// # Errors
/// When the chart cannot be rendered, the program not be built, or a file not be written.
pub fn write(cache: &Cache) -> Result<()> {
    for document in documents(cache)? {
        let path = book::repository().join(document.path);
        fs::write(&path, document.fresh()?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Checks that every document is what [`write()`] would write. Returns how many there are.
///
/// # Errors
/// The first that is not, with its first line that differs.
pub fn check(cache: &Cache) -> Result<usize> {
    let documents = documents(cache)?;
    for document in &documents {
        progress::step(document.path, || document.up_to_date())?;
    }
    Ok(documents.len())
}

fn documents(cache: &Cache) -> Result<Vec<Document>> {
    let mut documents = charts::documents(cache)?;
    documents.push(Document {
        path: "docs/src/reference/flags.md",
        heading: "\n## The server\n\n",
        rest: flags(cache)?,
    });
    Ok(documents)
}

/// The flags as clap knows them: a program of the crate they belong to prints them.
fn flags(cache: &Cache) -> Result<String> {
    let mut cargo = std::process::Command::new("cargo");
    cargo.args(["run", "--quiet", "--package=certmint", "--example=flags"]);
    cargo.env("CARGO_TARGET_DIR", cache.path("target")).current_dir(book::repository());
    let printed = command::output(&mut cargo)?;
    Ok(format!("{}\n", printed.trim_end()))
}

impl Document {
    fn found(&self) -> Result<String> {
        let path = book::repository().join(self.path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn fresh(&self) -> Result<String> {
        let Self { path, heading, rest } = self;
        let found = self.found()?;
        let (before, _) =
            found.split_once(heading).with_context(|| format!("{path} has no heading{heading}"))?;
        Ok(format!("{before}{heading}{rest}"))
    }

    fn up_to_date(&self) -> Result<()> {
        let (found, fresh) = (self.found()?, self.fresh()?);
        let differs = fresh.lines().zip(found.lines()).find(|(fresh, found)| fresh != found);
        let should =
            differs.map_or("its end differs".to_owned(), |(fresh, _)| format!("it should have\n{fresh}"));
        ensure!(found == fresh, "{} is stale, {should}\nrun `cargo xtask reference --write`", self.path);
        Ok(())
    }
}
