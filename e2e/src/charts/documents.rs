//! What is written from the chart: its README's table of values, and the page about the controller's rights.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Chart, privileges, read};

/// One commented entry of `values.yaml`.
pub(super) struct Described {
    pub(super) path: String,
    comment: String,
}

/// A file whose end, from a heading on, is written here.
struct Document {
    /// From the repository's root.
    path: &'static str,
    heading: &'static str,
    rest: String,
}

/// Writes every document anew.
pub(super) fn write(chart: &Chart) -> Result<()> {
    for document in documents(chart)? {
        let path = absolute(document.path);
        fs::write(&path, document.fresh()?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Every document is what [`write`] would write.
pub(super) fn up_to_date(chart: &Chart) -> Result<()> {
    for document in documents(chart)? {
        let found = document.found()?;
        ensure!(found == document.fresh()?, "{} is stale: run `cargo xtask chart --write`", document.path);
    }
    Ok(())
}

/// The innermost commented entries of `values.yaml`. One without a comment must lie above or below one with.
pub(super) fn values_described() -> Result<Vec<Described>> {
    described(&read("values.yaml")?)
}

fn documents(chart: &Chart) -> Result<[Document; 2]> {
    Ok([
        Document { path: "charts/certmint/README.md", heading: "\n## Values\n\n", rest: table()? },
        Document {
            path: "docs/src/reference/rbac.md",
            heading: "\n## The rules\n\n",
            rest: privileges::page(&chart.template(&[])?)?,
        },
    ])
}

impl Document {
    fn found(&self) -> Result<String> {
        let path = absolute(self.path);
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

fn absolute(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn table() -> Result<String> {
    let text = read("values.yaml")?;
    let defaults: Value = serde_saphyr::from_str(&text).context("values.yaml is not YAML")?;
    let mut table = String::from("| value | default | what it is |\n|---|---|---|\n");
    for Described { path, comment } in described(&text)? {
        let pointer = format!("/{}", path.replace('.', "/"));
        let default = defaults.pointer(&pointer).with_context(|| format!("values.yaml has no {path}"))?;
        table.push_str(&format!("| `{path}` | `{default}` | {comment} |\n"));
    }
    Ok(table)
}

fn described(text: &str) -> Result<Vec<Described>> {
    let (mut entries, mut parents, mut comment) = (Vec::<Described>::new(), Vec::<(usize, &str)>::new(), "");
    let mut uncommented = Vec::new();
    for line in text.lines() {
        let body = line.trim_start();
        if let Some(words) = body.strip_prefix("# ") {
            comment = words;
            continue;
        }
        let Some((key, _)) = body.split_once(':') else { continue };
        let indent = line.len() - body.len();
        parents.retain(|(outer, _)| *outer < indent);
        parents.push((indent, key));
        let path = parents.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
        match std::mem::take(&mut comment) {
            "" => uncommented.push(path),
            words => entries.push(Described { path, comment: words.to_owned() }),
        }
    }
    let paths: Vec<String> = entries.iter().map(|entry| entry.path.clone()).collect();
    entries.retain(|entry| !paths.iter().any(|path| lies_below(path, &entry.path)));
    for path in uncommented {
        let known =
            entries.iter().any(|entry| lies_below(&path, &entry.path) || lies_below(&entry.path, &path));
        ensure!(known, "values.yaml says nothing about {path}: write a comment above it");
    }
    Ok(entries)
}

fn lies_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_comments_describe_the_values() {
        let described = described("# Group.\na:\n  # One.\n  b: 1\n# Two.\nc:\n  d: 1\n").unwrap();
        let found: Vec<_> = described.iter().map(|one| (one.path.as_str(), one.comment.as_str())).collect();
        assert_eq!(found, [("a.b", "One."), ("c", "Two.")]);
    }

    #[test]
    fn a_value_without_a_comment_is_named() {
        let error = described("a:\n  # One.\n  b: 1\n  c: 2\n").err().unwrap().to_string();
        assert!(error.contains("a.c"), "{error}");
    }
}
