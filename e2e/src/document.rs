//! A file of the documentation that is written here in part.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::repository;

/// A file whose end, from a heading on, is written here.
pub(crate) struct Document {
    /// From the repository's root.
    pub(crate) path: &'static str,
    /// With the line breaks around it.
    pub(crate) heading: &'static str,
    /// What stands after it.
    pub(crate) rest: String,
}

impl Document {
    /// Writes it anew.
    pub(crate) fn write(&self) -> Result<()> {
        let path = repository::root().join(self.path);
        fs::write(&path, self.fresh()?).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Passes when it is what [`Self::write`] would write; the error has the first line that differs.
    pub(crate) fn up_to_date(&self) -> Result<()> {
        let (found, fresh) = (self.found()?, self.fresh()?);
        let differs = fresh.lines().zip(found.lines()).find(|(fresh, found)| fresh != found);
        let should =
            differs.map_or("its end differs".to_owned(), |(fresh, _)| format!("it should have\n{fresh}"));
        ensure!(found == fresh, "{} is stale, {should}\nrun `cargo xtask reference --write`", self.path);
        Ok(())
    }

    fn found(&self) -> Result<String> {
        let path = repository::root().join(self.path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn fresh(&self) -> Result<String> {
        let Self { path, heading, rest } = self;
        let found = self.found()?;
        let (before, _) =
            found.split_once(heading).with_context(|| format!("{path} has no heading{heading}"))?;
        Ok(format!("{before}{heading}{rest}"))
    }
}
