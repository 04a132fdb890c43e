//! Descriptions of the chart's values in `values.yaml`, and the tables generated from them.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::chart::read;

/// A commented entry of `values.yaml`.
#[derive(Clone)]
pub(crate) struct DocumentedValue {
    pub(crate) path: String,
    comment: String,
    /// Title of the last `##` line above the entry in its group.
    subgroup: Option<String>,
}

/// Head of a table of values.
const HEAD: &str = "| value | default | description |\n|---|---|---|\n";

/// Returns the innermost commented entries of `values.yaml`.
///
/// # Errors
/// When an entry has no comment, no entry that contains it has one, and no entry in it has one.
pub(crate) fn values() -> Result<Vec<DocumentedValue>> {
    commented(&read("values.yaml")?).map(innermost)
}

/// Returns Markdown tables of all values. Each group has a heading, the comment on the group, and a table. A group with
/// `##` lines has one table for each of these subgroups. Values outside groups are in the group `General`.
///
/// # Errors
/// When `values.yaml` cannot be read, or has a value without a comment.
pub fn tables() -> Result<String> {
    let defaults = defaults()?;
    let entries = commented(&read("values.yaml")?)?;
    let mut groups: Vec<Group> = Vec::new();
    for value in &innermost(entries.clone()) {
        let name = value.path.split_once('.').map(|(group, _)| group);
        let heading = name.map_or_else(|| "General".to_owned(), |group| format!("`{group}`"));
        let row = row(value, &defaults)?;
        if let Some(group) = groups.iter_mut().find(|group| group.heading == heading) {
            group.add(value.subgroup.as_deref(), &row);
        } else {
            let comment = entries.iter().find(|entry| Some(entry.path.as_str()) == name);
            let text = comment.map(|entry| format!("{}\n\n", entry.comment)).unwrap_or_default();
            let mut group = Group { heading, text, subgroup: None, has_rows: false };
            group.add(value.subgroup.as_deref(), &row);
            groups.push(group);
        }
    }
    let texts: Vec<_> =
        groups.into_iter().map(|Group { heading, text, .. }| format!("### {heading}\n\n{text}")).collect();
    Ok(texts.join("\n"))
}

/// A group of values, and its Markdown so far.
struct Group {
    heading: String,
    text: String,
    /// Subgroup of the last row.
    subgroup: Option<String>,
    has_rows: bool,
}

impl Group {
    /// Adds the row of a value, below a new heading if the value begins another subgroup.
    fn add(&mut self, subgroup: Option<&str>, row: &str) {
        if subgroup.is_some() && subgroup != self.subgroup.as_deref() {
            let title = subgroup.unwrap_or_default();
            let gap = if self.has_rows { "\n" } else { "" };
            self.text.push_str(&format!("{gap}#### {title}\n\n{HEAD}"));
            self.subgroup = Some(title.to_owned());
        } else if !self.has_rows {
            self.text.push_str(HEAD);
        }
        self.has_rows = true;
        self.text.push_str(row);
    }
}

/// Returns the parsed `values.yaml`.
pub(crate) fn defaults() -> Result<Value> {
    serde_saphyr::from_str(&read("values.yaml")?).context("values.yaml is not YAML")
}

fn row(value: &DocumentedValue, defaults: &Value) -> Result<String> {
    let DocumentedValue { path, comment, .. } = value;
    let pointer = format!("/{}", path.replace('.', "/"));
    let default = defaults.pointer(&pointer).with_context(|| format!("values.yaml has no {path}"))?;
    // JSON in one line, with spaces where a narrow table may break the line.
    let default = serde_json::to_string_pretty(default)?;
    let default = default.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(format!("| `{path}` | `{default}` | {comment} |\n"))
}

/// Returns every entry with a comment, groups included.
fn commented(text: &str) -> Result<Vec<DocumentedValue>> {
    let (mut entries, mut parents, mut comment) =
        (Vec::<DocumentedValue>::new(), Vec::<(usize, &str)>::new(), "");
    let mut uncommented = Vec::new();
    let mut subgroup = None;
    for line in text.lines() {
        let body = line.trim_start();
        if let Some(title) = body.strip_prefix("## ") {
            subgroup = Some(title.to_owned());
            continue;
        }
        if let Some(words) = body.strip_prefix("# ") {
            comment = words;
            continue;
        }
        let Some((key, _)) = body.split_once(':') else { continue };
        let indent = line.len() - body.len();
        if indent == 0 {
            subgroup = None;
        }
        parents.retain(|(outer, _)| *outer < indent);
        parents.push((indent, key));
        let path = parents.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
        match std::mem::take(&mut comment) {
            "" => uncommented.push(path),
            words => {
                entries.push(DocumentedValue { path, comment: words.to_owned(), subgroup: subgroup.clone() });
            }
        }
    }
    let innermost = innermost(entries.clone());
    for path in uncommented {
        let known =
            innermost.iter().any(|entry| is_below(&path, &entry.path) || is_below(&entry.path, &path));
        ensure!(known, "values.yaml has no comment on {path}: write one above it");
    }
    Ok(entries)
}

/// Returns the entries that contain no other entry.
fn innermost(mut entries: Vec<DocumentedValue>) -> Vec<DocumentedValue> {
    let paths: Vec<String> = entries.iter().map(|entry| entry.path.clone()).collect();
    entries.retain(|entry| !paths.iter().any(|path| is_below(path, &entry.path)));
    entries
}

fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn innermost_comments_describe_values() {
        let described = innermost(commented("# Group.\na:\n  # One.\n  b: 1\n# Two.\nc:\n  d: 1\n").unwrap());
        let found: Vec<_> =
            described.iter().map(|value| (value.path.as_str(), value.comment.as_str())).collect();
        assert_eq!(found, [("a.b", "One."), ("c", "Two.")]);
    }

    #[test]
    fn a_subgroup_ends_with_its_group() {
        let entries = commented("a:\n  ## Ports\n  # One.\n  b: 1\n# Two.\nc: 2\n").unwrap();
        let found: Vec<_> =
            entries.iter().map(|entry| (entry.path.as_str(), entry.subgroup.as_deref())).collect();
        assert_eq!(found, [("a.b", Some("Ports")), ("c", None)]);
    }

    #[test]
    fn rejects_values_without_a_comment() {
        let error = commented("a:\n  # One.\n  b: 1\n  c: 2\n").err().unwrap().to_string();
        assert!(error.contains("a.c"), "{error}");
    }
}
