//! A run's figures: a table for people, JSON for comparison.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::environment::Environment;
use crate::figure::Figure;

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) environment: Environment,
    pub(crate) figures: Vec<Figure>,
    /// What is missing, and why.
    pub(crate) failed: Vec<String>,
}

impl Report {
    /// The figures as a Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| row | what | measured | beside it, same run | target | met |\n|---|---|---:|---:|---:|---|\n",
        );
        for figure in &self.figures {
            let Figure { row, what, value, unit, beside, .. } = figure;
            let beside = beside.as_ref().map(|beside| format!("{}: {}", beside.what, number(beside.value)));
            let met = match figure.met {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "| `{row}` | {what} | {} {unit} | {} | {} | {met} |",
                number(*value),
                beside.unwrap_or_default(),
                figure.bound().map(number).unwrap_or_default(),
            );
        }
        table
    }

    /// Writes the run to a file of its own in `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<PathBuf> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join(format!("{}.json", self.environment.started.replace(':', "")));
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The row that a line of [`Report::table`] belongs to.
#[cfg(test)]
pub(crate) fn row_of(line: &str) -> Option<&str> {
    let first = line.strip_prefix("| ")?.split(" |").next()?;
    (first != "row").then(|| first.trim_matches('`'))
}
