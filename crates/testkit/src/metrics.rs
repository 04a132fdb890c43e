//! What a program shows at `/metrics`, beside `docs/src/reference/metrics.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

/// Where the page is.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/reference/metrics.md");
/// What a histogram adds to its labels by itself.
const BUCKET: &str = "le";

/// Panics unless the table in the page's section says exactly what `exposition`, in OpenMetrics' text format, shows:
/// name, type, labels and meaning. The message has the table that would.
pub fn documented(section: &str, exposition: &str) {
    let page = fs::read_to_string(PAGE).expect("the page is there");
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).expect("the page has the section");
    let body = rest.split("\n## ").next().unwrap_or_default();
    let found: Vec<_> = body.lines().filter(|line| line.starts_with("| `")).collect();
    let shown = table(exposition);
    let expected: Vec<_> = shown.lines().collect();
    assert_eq!(found, expected, "the section \"{section}\" of the page should have this table:\n{shown}");
}

fn table(exposition: &str) -> String {
    let (mut types, mut meanings) = (BTreeMap::new(), BTreeMap::new());
    for line in exposition.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name, kind);
        } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            meanings.insert(name, help.trim_end_matches('.'));
        }
    }
    let mut table = String::new();
    for (name, kind) in types {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<_> = labels(exposition, name).into_iter().map(|label| format!("`{label}`")).collect();
        let (labels, meaning) = (labels.join(", "), meanings[name]);
        writeln!(table, "| `{name}{suffix}`<br>{kind} | {labels} | {meaning} |").expect("a String takes all");
    }
    table
}

/// The labels of a metric's first sample.
fn labels<'a>(exposition: &'a str, name: &str) -> Vec<&'a str> {
    let sample = exposition.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let known = ["{", " ", "_total", "_info", "_bucket", "_sum", "_count"];
        known.iter().any(|next| rest.starts_with(next)).then_some(rest)
    });
    let labels =
        sample.and_then(|rest| rest.split_once('{')?.1.split_once('}')).map_or("", |(labels, _)| labels);
    let names = labels.split(',').filter_map(|label| label.split_once('=').map(|(name, _)| name));
    names.filter(|label| *label != BUCKET).collect()
}
