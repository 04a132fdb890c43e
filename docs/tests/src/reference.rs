//! The parts of the documentation that are written from code: values and rights from the chart, flags and metrics from
//! the program, annotations and error codes from the contract.
//!
//! Other parts are written by hand and compared with the code by the tests of the crate that they describe.

use anyhow::Result;
use certmint_chart_tests::{described, permission_tables, prometheus};
use certmint_contract::keys::{self, UserAnnotation};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::{command, progress, tools};

use crate::document::Document;
use crate::error_page::{self, ErrorPage};

/// Writes every document anew.
///
/// # Errors
/// When the chart cannot be rendered, the program not be built, or a file not be written.
pub fn write(cache: &Cache) -> Result<()> {
    documents(cache)?.iter().try_for_each(Document::write)
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
    Ok(vec![
        Document { path: "charts/certmint/README.md", heading: "Values", text: described::tables()? },
        Document { path: "docs/src/reference/values.md", heading: "The values", text: described::tables()? },
        Document {
            path: "docs/src/reference/rbac.md",
            heading: "The rules",
            text: permission_tables(cache)?,
        },
        Document {
            path: "docs/src/reference/flags.md",
            heading: "The server",
            text: printed(cache, "flags")?,
        },
        Document { path: prometheus::PAGE, heading: "What is shown", text: printed(cache, "metrics")? },
        Document {
            path: "docs/src/reference/annotations.md",
            heading: "The annotations",
            text: annotations(),
        },
        Document { path: error_page::PATH, heading: "The codes", text: ErrorPage::read()?.codes()? },
    ])
}

/// What the program knows of itself: an example of its crate prints it.
fn printed(cache: &Cache, example: &str) -> Result<String> {
    let mut cargo = tools::cargo(cache, &["run", "--quiet", "--package=certmint", "--example", example]);
    let printed = command::output(&mut cargo)?;
    Ok(format!("{}\n", printed.trim_end()))
}

fn annotations() -> String {
    let rows = keys::USER_ANNOTATIONS.iter().map(|annotation| {
        let UserAnnotation { key, values, default, purpose } = annotation;
        format!("| `{}` | {values} | {default} | {purpose} |\n", key.trim_start_matches(keys::PREFIX))
    });
    let head = "| key | values | default | what it is for |\n|---|---|---|---|\n";
    format!("{head}{}", rows.collect::<String>())
}
