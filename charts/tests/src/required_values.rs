//! Tests of the values that the schema requires, by removing each of them.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::chart::{Chart, read};
use crate::value_tables;

/// An object in the values from which a test removes all members that the schema requires.
struct IncompleteObject {
    /// JSON pointer of the object.
    pointer: String,
    /// Names of the missing members.
    names: Vec<String>,
    /// Path and value of the `--set-json` arguments that remove the members.
    sets: Vec<(String, Value)>,
}

/// A step on the path from the root of the values to a value.
#[derive(Clone)]
enum PathStep {
    Key(String),
    /// Step into the first element of a list.
    First,
}

/// Schema and defaults of the values.
struct Schema {
    root: Value,
    defaults: Value,
}

/// Checks that each required value is reported by name when it is removed. The test ignores values inside alternatives
/// such as `anyOf`.
pub(crate) fn missing_values_are_reported(chart: &Chart) -> Result<()> {
    let root =
        serde_json::from_str(&read("values.schema.json")?).context("values.schema.json is not JSON")?;
    let schema = Schema { root, defaults: value_tables::defaults()? };
    let mut incomplete = Vec::new();
    schema.visit(&schema.root, &[], &mut incomplete);
    ensure!(incomplete.len() > 1, "values.schema.json has no required values");
    groups(incomplete).iter().try_for_each(|group| {
        let sets = group.iter().flat_map(|object| &object.sets);
        let sets: Vec<String> = sets.map(|(path, value)| format!("{path}={value}")).collect();
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let Err(error) = chart.template(&sets) else { bail!("the chart accepts --set-json {sets:?}") };
        let error = error.to_string();
        group.iter().try_for_each(|object| object.expect_reported(&error))
    })
}

impl Schema {
    fn visit(&self, schema: &Value, steps: &[PathStep], incomplete: &mut Vec<IncompleteObject>) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => self.root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null),
            None => schema,
        };
        let within = |step| [steps, &[step]].concat();
        let names = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<String> = names.map(str::to_owned).collect();
        if !names.is_empty() {
            let sets = self.sets(steps, &names);
            incomplete.push(IncompleteObject { pointer: pointer(steps), names, sets });
        }
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            self.visit(property, &within(PathStep::Key(key.clone())), incomplete);
        }
        if schema["items"].is_object() {
            self.visit(&schema["items"], &within(PathStep::First), incomplete);
        }
    }

    /// Returns arguments that remove the members `names` of an object. If `values.yaml` has the object, `null` removes
    /// each member. Otherwise the argument sets an empty object.
    fn sets(&self, steps: &[PathStep], names: &[String]) -> Vec<(String, Value)> {
        let known = (0..=steps.len()).rev().find_map(|end| {
            let steps = steps.get(..end)?;
            self.defaults.pointer(&pointer(steps)).filter(|default| default.is_object())?;
            Some((path(steps)?, end))
        });
        let (path, end) = known.unwrap_or_default();
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match steps.get(end..) {
            None | Some([]) => names.iter().map(|name| (below(name), Value::Null)).collect(),
            Some([PathStep::Key(key), rest @ ..]) => vec![(below(key), nested_object(rest))],
            Some(rest) => vec![(path, nested_object(rest))],
        }
    }
}

impl IncompleteObject {
    fn expect_reported(&self, error: &str) -> Result<()> {
        let Self { pointer, names, .. } = self;
        let reported: Vec<&str> =
            error.lines().filter(|line| line.contains(&format!("at '{pointer}': missing propert"))).collect();
        let unreported =
            names.iter().find(|name| !reported.iter().any(|line| line.contains(&format!("'{name}'"))));
        ensure!(
            unreported.is_none(),
            "the error does not report that {pointer} has no {unreported:?}: {error}"
        );
        Ok(())
    }

    /// Returns whether both objects set the same value, or one object sets a value inside a value of the other.
    fn conflicts_with(&self, other: &Self) -> bool {
        let covers = |a: &str, b: &str| b == a || b.strip_prefix(a).is_some_and(|rest| rest.starts_with('.'));
        self.sets.iter().any(|(a, _)| other.sets.iter().any(|(b, _)| covers(a, b) || covers(b, a)))
    }
}

/// Groups the objects that do not conflict. The test renders the chart once for each group, because rendering is slow.
fn groups(incomplete: Vec<IncompleteObject>) -> Vec<Vec<IncompleteObject>> {
    let mut groups: Vec<Vec<IncompleteObject>> = Vec::new();
    for object in incomplete {
        match groups.iter_mut().find(|group| !group.iter().any(|other| object.conflicts_with(other))) {
            Some(group) => group.push(object),
            None => groups.push(vec![object]),
        }
    }
    groups
}

/// Returns the steps as a path for `--set-json`, or `None` when they lead into a list.
fn path(steps: &[PathStep]) -> Option<String> {
    let keys = steps.iter().map(|step| match step {
        PathStep::Key(key) => Some(key.as_str()),
        PathStep::First => None,
    });
    Some(keys.collect::<Option<Vec<_>>>()?.join("."))
}

fn pointer(steps: &[PathStep]) -> String {
    let parts = steps.iter().map(|step| match step {
        PathStep::Key(key) => format!("/{key}"),
        PathStep::First => "/0".to_owned(),
    });
    parts.collect()
}

/// Returns a value that has an empty object at the end of these steps.
fn nested_object(steps: &[PathStep]) -> Value {
    steps.iter().rfold(json!({}), |value, step| match step {
        PathStep::Key(key) => Map::from_iter([(key.clone(), value)]).into(),
        PathStep::First => json!([value]),
    })
}
