//! A file of the documentation that is written here in part.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::repository;

/// A file of which one section is written here.
pub(crate) struct Document {
    /// From the repository's root.
    pub(crate) path: &'static str,
    /// The section's heading, of the second level. It ends at the next of that level, or with the file.
    pub(crate) heading: &'static str,
    /// What stands below it.
    pub(crate) text: String,
}

impl Document {
    /// Writes it anew.
    pub(crate) fn write(&self) -> Result<()> {
        let path = repository::root().join(self.path);
        fs::write(&path, self.fresh(&self.found()?)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Passes when it is what [`Self::write`] would write; the error has the first line that differs.
    pub(crate) fn up_to_date(&self) -> Result<()> {
        let found = self.found()?;
        let fresh = self.fresh(&found)?;
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

    fn fresh(&self, found: &str) -> Result<String> {
        let Self { path, heading, text } = self;
        let heading = format!("\n## {heading}\n\n");
        let (before, rest) =
            found.split_once(&heading).with_context(|| format!("{path} has no heading{heading}"))?;
        let after = rest.split_once("\n## ").map(|(_, after)| format!("\n## {after}")).unwrap_or_default();
        Ok(format!("{before}{heading}{text}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(found: &str) -> Result<String> {
        Document { path: "page.md", heading: "Ours", text: "new\n".to_owned() }.fresh(found)
    }

    #[test]
    fn what_stands_around_the_section_stays() {
        let found = "# Page\n\n## Ours\n\n### Old\n\nold\n\n## Theirs\n\ntext\n\n## More\n";
        let expected = "# Page\n\n## Ours\n\nnew\n\n## Theirs\n\ntext\n\n## More\n";
        assert_eq!(fresh(found).unwrap(), expected);
        assert_eq!(fresh("# Page\n\n## Ours\n\nold\n").unwrap(), "# Page\n\n## Ours\n\nnew\n");
    }

    #[test]
    fn a_page_without_the_section_is_named() {
        assert!(fresh("# Page\n").unwrap_err().to_string().contains("page.md has no heading\n## Ours"));
    }
}
