//! The values of the chart as `values.yaml` describes them, and the tables made of that.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::read;

/// One commented entry of `values.yaml`.
#[derive(Clone)]
pub(super) struct Described {
    pub(super) path: String,
    comment: String,
}

/// What a table of values begins with.
const HEAD: &str = "| value | default | what it is |\n|---|---|---|\n";

/// The innermost commented entries of `values.yaml`. One without a comment must lie above or below one with.
pub(super) fn values() -> Result<Vec<Described>> {
    commented(&read("values.yaml")?).map(innermost)
}

/// One table of all values.
pub(super) fn table() -> Result<String> {
    let defaults = defaults()?;
    let rows = values()?.iter().map(|value| row(value, &defaults)).collect::<Result<String>>()?;
    Ok(format!("{HEAD}{rows}"))
}

/// A table for each group of values, below a heading and the comment on the group; first what is in none.
pub(super) fn page() -> Result<String> {
    let defaults = defaults()?;
    let comments = commented(&read("values.yaml")?)?;
    let mut sections: Vec<(String, String)> = vec![("In general".to_owned(), HEAD.to_owned())];
    for value in &innermost(comments.clone()) {
        let title = value.path.split_once('.').map(|(group, _)| group);
        let heading = title.map_or_else(|| "In general".to_owned(), |group| format!("`{group}`"));
        let row = row(value, &defaults)?;
        match sections.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, table)) => table.push_str(&row),
            None => {
                let about = comments.iter().find(|one| Some(one.path.as_str()) == title);
                let about = about.map(|one| format!("{}\n\n", one.comment)).unwrap_or_default();
                sections.push((heading, format!("{about}{HEAD}{row}")));
            }
        }
    }
    let sections: Vec<_> =
        sections.into_iter().map(|(heading, text)| format!("### {heading}\n\n{text}")).collect();
    Ok(sections.join("\n"))
}

/// `values.yaml`.
pub(super) fn defaults() -> Result<Value> {
    serde_saphyr::from_str(&read("values.yaml")?).context("values.yaml is not YAML")
}

fn row(value: &Described, defaults: &Value) -> Result<String> {
    let Described { path, comment } = value;
    let pointer = format!("/{}", path.replace('.', "/"));
    let default = defaults.pointer(&pointer).with_context(|| format!("values.yaml has no {path}"))?;
    // In one line, with spaces where a narrow table may break it.
    let default = serde_json::to_string_pretty(default)?;
    let default = default.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(format!("| `{path}` | `{default}` | {comment} |\n"))
}

/// Every entry with a comment, groups included.
fn commented(text: &str) -> Result<Vec<Described>> {
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
    let innermost = innermost(entries.clone());
    for path in uncommented {
        let known =
            innermost.iter().any(|entry| lies_below(&path, &entry.path) || lies_below(&entry.path, &path));
        ensure!(known, "values.yaml says nothing about {path}: write a comment above it");
    }
    Ok(entries)
}

/// Those that no other lies below.
fn innermost(mut entries: Vec<Described>) -> Vec<Described> {
    let paths: Vec<String> = entries.iter().map(|entry| entry.path.clone()).collect();
    entries.retain(|entry| !paths.iter().any(|path| lies_below(path, &entry.path)));
    entries
}

fn lies_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_comments_describe_the_values() {
        let described = innermost(commented("# Group.\na:\n  # One.\n  b: 1\n# Two.\nc:\n  d: 1\n").unwrap());
        let found: Vec<_> = described.iter().map(|one| (one.path.as_str(), one.comment.as_str())).collect();
        assert_eq!(found, [("a.b", "One."), ("c", "Two.")]);
    }

    #[test]
    fn a_value_without_a_comment_is_named() {
        let error = commented("a:\n  # One.\n  b: 1\n  c: 2\n").err().unwrap().to_string();
        assert!(error.contains("a.c"), "{error}");
    }
}
