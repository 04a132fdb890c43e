//! Output of a run: a table for readers, and JSON for comparison with other runs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::environment::Environment;
use crate::result::Measurement;

/// Results of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) environment: Environment,
    pub(crate) measurements: Vec<Measurement>,
    /// Rows and checks that failed, with the error.
    pub(crate) failed: Vec<String>,
}

impl Report {
    /// Returns the measurements as a Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| row | what | measured | baseline, same run | target | met |\n|---|---|---:|---:|---:|---|\n",
        );
        for measurement in &self.measurements {
            let Measurement { row, what, value, unit, baseline, .. } = measurement;
            let baseline =
                baseline.as_ref().map(|baseline| format!("{}: {}", baseline.what, number(baseline.value)));
            let met = match measurement.met {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "| `{row}` | {what} | {} {unit} | {} | {} | {met} |",
                number(*value),
                baseline.unwrap_or_default(),
                measurement.limit().map(number).unwrap_or_default(),
            );
        }
        table
    }

    /// Writes the results to a new file in `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<PathBuf> {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let path = directory.join(format!("{}.json", self.environment.started.replace(':', "")));
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Formats a number with three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Returns the row that a line of [`Report::table`] belongs to.
#[cfg(test)]
pub(crate) fn row_of(line: &str) -> Option<&str> {
    let first = line.strip_prefix("| ")?.split(" |").next()?;
    (first != "row").then(|| first.trim_matches('`'))
}
