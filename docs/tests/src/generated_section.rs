//! A file of the documentation with one generated section.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::repository;

/// A file with one generated section.
#[derive(Debug)]
pub struct GeneratedSection {
    /// Path of the file, from the repository's root.
    pub path: &'static str,
    /// Heading of the section, on the second level. The section ends at the next heading of that level, or with
    /// the file.
    pub heading: &'static str,
    /// Generated content of the section.
    pub text: String,
}

impl GeneratedSection {
    /// Rewrites the section in the file.
    ///
    /// # Errors
    /// When the file lacks the section, or cannot be read or written.
    pub fn write(&self) -> Result<()> {
        let path = repository::root().join(self.path);
        fs::write(&path, self.updated(&self.current()?)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Checks that the section has the generated content.
    ///
    /// # Errors
    /// When the section has another content; the error contains the first different line.
    pub fn expect_up_to_date(&self) -> Result<()> {
        let current = self.current()?;
        let updated = self.updated(&current)?;
        let first = updated.lines().zip(current.lines()).find(|(updated, current)| updated != current);
        let difference = first.map_or("its end is different".to_owned(), |(updated, _)| {
            format!("it should contain\n{updated}")
        });
        ensure!(
            current == updated,
            "{} is not up to date: {difference}\nrun `cargo xtask reference --write`",
            self.path
        );
        Ok(())
    }

    fn current(&self) -> Result<String> {
        let path = repository::root().join(self.path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn updated(&self, current: &str) -> Result<String> {
        let Self { path, heading, text } = self;
        let heading = format!("\n## {heading}\n\n");
        let (before, rest) =
            current.split_once(&heading).with_context(|| format!("{path} has no heading{heading}"))?;
        let after = rest.split_once("\n## ").map(|(_, after)| format!("\n## {after}")).unwrap_or_default();
        Ok(format!("{before}{heading}{text}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(current: &str) -> Result<String> {
        GeneratedSection { path: "page.md", heading: "Generated", text: "new\n".to_owned() }.updated(current)
    }

    #[test]
    fn other_sections_are_kept() {
        let current = "# Page\n\n## Generated\n\n### Old\n\nold\n\n## Other\n\ntext\n\n## More\n";
        let expected = "# Page\n\n## Generated\n\nnew\n\n## Other\n\ntext\n\n## More\n";
        assert_eq!(updated(current).unwrap(), expected);
        assert_eq!(updated("# Page\n\n## Generated\n\nold\n").unwrap(), "# Page\n\n## Generated\n\nnew\n");
    }

    #[test]
    fn rejects_files_without_the_section() {
        assert!(
            updated("# Page\n").unwrap_err().to_string().contains("page.md has no heading\n## Generated")
        );
    }
}
