//! What the schema of the values requires, taken out.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::{Chart, described, read};

/// An object of the values without anything that its schema requires.
struct Gap {
    /// Where it is, as a JSON pointer.
    pointer: String,
    /// What it lacks.
    names: Vec<String>,
    /// The `--set-json` arguments that make it so: a path and a value each.
    sets: Vec<(String, Value)>,
}

/// A step from one value to one within.
#[derive(Clone)]
enum Step {
    Key(String),
    /// Into a list's first element.
    First,
}

/// The schema, with the defaults.
struct Schema {
    root: Value,
    defaults: Value,
}

/// Whatever the schema requires, wherever it does, is missed by name when it is taken out. Alternatives are not gone
/// into.
pub(crate) fn missed(chart: &Chart) -> Result<()> {
    let root =
        serde_json::from_str(&read("values.schema.json")?).context("values.schema.json is not JSON")?;
    let schema = Schema { root, defaults: described::defaults()? };
    let mut gaps = Vec::new();
    schema.visit(&schema.root, &[], &mut gaps);
    ensure!(gaps.len() > 1, "values.schema.json requires nothing");
    groups(gaps).iter().try_for_each(|group| {
        let sets = group.iter().flat_map(|gap| &gap.sets);
        let sets: Vec<String> = sets.map(|(path, value)| format!("{path}={value}")).collect();
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let Err(error) = chart.template(&sets) else { bail!("the chart takes --set-json {sets:?}") };
        let error = error.to_string();
        group.iter().try_for_each(|gap| gap.is_told(&error))
    })
}

impl Schema {
    fn visit(&self, schema: &Value, steps: &[Step], gaps: &mut Vec<Gap>) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => self.root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null),
            None => schema,
        };
        let within = |step| [steps, &[step]].concat();
        let names = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<String> = names.map(str::to_owned).collect();
        if !names.is_empty() {
            let sets = self.sets(steps, &names);
            gaps.push(Gap { pointer: pointer(steps), names, sets });
        }
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            self.visit(property, &within(Step::Key(key.clone())), gaps);
        }
        if schema["items"].is_object() {
            self.visit(&schema["items"], &within(Step::First), gaps);
        }
    }

    /// What has a default is taken out by null; where there is none, an object without anything is put.
    fn sets(&self, steps: &[Step], names: &[String]) -> Vec<(String, Value)> {
        let known = (0..=steps.len()).rev().find_map(|end| {
            let steps = steps.get(..end)?;
            self.defaults.pointer(&pointer(steps)).filter(|default| default.is_object())?;
            Some((path(steps)?, end))
        });
        let (path, end) = known.unwrap_or_default();
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match steps.get(end..) {
            None | Some([]) => names.iter().map(|name| (below(name), Value::Null)).collect(),
            Some([Step::Key(key), rest @ ..]) => vec![(below(key), built(rest))],
            Some(rest) => vec![(path, built(rest))],
        }
    }
}

impl Gap {
    fn is_told(&self, error: &str) -> Result<()> {
        let Self { pointer, names, .. } = self;
        let told: Vec<&str> =
            error.lines().filter(|line| line.contains(&format!("at '{pointer}': missing propert"))).collect();
        let untold = names.iter().find(|name| !told.iter().any(|line| line.contains(&format!("'{name}'"))));
        ensure!(untold.is_none(), "{pointer} without {untold:?} is not refused for that: {error}");
        Ok(())
    }

    /// Whether the one would undo what the other sets.
    fn is_disturbed_by(&self, other: &Self) -> bool {
        let covers = |a: &str, b: &str| b == a || b.strip_prefix(a).is_some_and(|rest| rest.starts_with('.'));
        self.sets.iter().any(|(a, _)| other.sets.iter().any(|(b, _)| covers(a, b) || covers(b, a)))
    }
}

/// As few groups as need be of gaps that can be there at one time.
fn groups(gaps: Vec<Gap>) -> Vec<Vec<Gap>> {
    let mut groups: Vec<Vec<Gap>> = Vec::new();
    for gap in gaps {
        match groups.iter_mut().find(|group| !group.iter().any(|other| gap.is_disturbed_by(other))) {
            Some(group) => group.push(gap),
            None => groups.push(vec![gap]),
        }
    }
    groups
}

/// The steps as a path of `--set-json`, unless they go into a list.
fn path(steps: &[Step]) -> Option<String> {
    let keys = steps.iter().map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::First => None,
    });
    Some(keys.collect::<Option<Vec<_>>>()?.join("."))
}

fn pointer(steps: &[Step]) -> String {
    let parts = steps.iter().map(|step| match step {
        Step::Key(key) => format!("/{key}"),
        Step::First => "/0".to_owned(),
    });
    parts.collect()
}

/// An empty object, at the end of these steps.
fn built(steps: &[Step]) -> Value {
    steps.iter().rfold(json!({}), |value, step| match step {
        Step::Key(key) => Map::from_iter([(key.clone(), value)]).into(),
        Step::First => json!([value]),
    })
}
