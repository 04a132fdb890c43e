//! Generated sections of the documentation: values and permissions from the chart, flags and metrics from the
//! program, annotations and error codes from the contract.
//!
//! Other sections are written by hand. Tests compare those on messages, alerts, limits and pods with the code.

use anyhow::Result;
use certmint_chart_tests::{permission_tables, prometheus, value_tables};
use certmint_contract::annotations::reference::{REFERENCE, ReferenceEntry};
use certmint_contract::keys;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::{command, progress, tools};

use crate::error_page::{self, ErrorPage};
use crate::generated_section::GeneratedSection;

/// Rewrites every generated section.
///
/// # Errors
/// When the chart cannot be rendered, the program cannot be built, or a file cannot be written.
pub fn write(cache: &Cache) -> Result<()> {
    sections(cache)?.iter().try_for_each(GeneratedSection::write)
}

/// Checks that every section is up to date, and returns their number.
///
/// # Errors
/// When a section is not up to date. The error contains its first different line.
pub fn check(cache: &Cache) -> Result<usize> {
    let sections = sections(cache)?;
    for section in &sections {
        progress::step(section.path, || section.expect_up_to_date())?;
    }
    Ok(sections.len())
}

fn sections(cache: &Cache) -> Result<Vec<GeneratedSection>> {
    Ok(vec![
        GeneratedSection {
            path: "charts/certmint/README.md",
            heading: "Values",
            text: value_tables::tables()?,
        },
        GeneratedSection {
            path: "docs/src/reference/values.md",
            heading: "The values",
            text: value_tables::tables()?,
        },
        GeneratedSection {
            path: "docs/src/reference/rbac.md",
            heading: "The rules",
            text: permission_tables(cache)?,
        },
        GeneratedSection {
            path: "docs/src/reference/flags.md",
            heading: "The server",
            text: printed(cache, "flags")?,
        },
        GeneratedSection { path: prometheus::PAGE, heading: "The metrics", text: printed(cache, "metrics")? },
        GeneratedSection {
            path: "docs/src/reference/annotations.md",
            heading: "The annotations",
            text: annotations(),
        },
        GeneratedSection { path: error_page::PATH, heading: "Index", text: error_page::index() },
        GeneratedSection { path: error_page::PATH, heading: "The codes", text: ErrorPage::read()?.codes()? },
    ])
}

/// Returns the output of an example of the crate `certmint`, which prints the program's flags or metrics.
fn printed(cache: &Cache, example: &str) -> Result<String> {
    let mut cargo = tools::cargo(cache, &["run", "--quiet", "--package=certmint", "--example", example]);
    let printed = command::output(&mut cargo)?;
    Ok(format!("{}\n", printed.trim_end()))
}

fn annotations() -> String {
    let rows = REFERENCE.iter().map(|annotation| {
        let ReferenceEntry { key, values, default, purpose } = annotation;
        format!("| `{}` | {values} | {default} | {purpose} |\n", key.trim_start_matches(keys::PREFIX))
    });
    let head = "| key | values | default | what it is for |\n|---|---|---|---|\n";
    format!("{head}{}", rows.collect::<String>())
}
