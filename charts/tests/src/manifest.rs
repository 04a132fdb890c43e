//! Objects of a rendered chart.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// All objects of a rendered chart.
pub(crate) struct Manifest(Vec<Value>);

impl Manifest {
    pub(crate) fn parse(yaml: &str) -> Result<Self> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(yaml).context("the rendered chart is not YAML")?;
        Ok(Self(documents.into_iter().filter(|document| !document.is_null()).collect()))
    }

    pub(crate) fn objects(&self) -> &[Value] {
        &self.0
    }

    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    pub(crate) fn object(&self, kind: &str, name: &str) -> Result<&Value> {
        match self.0.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name) {
            Some(object) => Ok(object),
            None => bail!("the chart renders no {kind} {name}"),
        }
    }
}

/// Returns `Kind/name` for messages.
pub(crate) fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// Returns the elements of an array, and none for other values.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns the strings in an array.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    items(value).iter().filter_map(Value::as_str).collect()
}

/// Returns whether a selector's `matchLabels` match these labels. Returns `false` for an empty selector, because it
/// would select everything.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
    })
}
