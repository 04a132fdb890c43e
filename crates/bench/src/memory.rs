//! What the controller holds in memory, by how much there is to look after.

use anyhow::Result;

use crate::Run;
use crate::figure::{Figure, Target};
use crate::filled::Filled;

const ROW: &str = "memory";
/// Of others' Secrets the controller is to know nothing; what it works with meanwhile comes and goes.
const SLACK: f64 = 1.0;

/// RSS, each time when all has been issued that there was to issue.
pub(crate) fn memory(run: &Run) -> Result<Vec<Figure>> {
    let filled = run.filled()?;
    let Filled { count, idle, managed, .. } = filled;
    let rss = |what: String, value| Figure::new(ROW, format!("RSS {what}"), value, "MiB");
    let mut figures = vec![
        rss("with nothing to do".to_owned(), *idle).target(Target::Most(20.0)),
        rss(format!("with {count} Secrets issued"), *managed).target(Target::Most(64.0)),
    ];
    let most = if run.quick { *count } else { 50_000 };
    if most > *count {
        filled.grow(most)?;
        let grown = filled.controller()?.rss()?;
        figures.push(rss(format!("with {most}"), grown).target(Target::Most(150.0)));
    }
    let before = filled.controller()?.rss()?;
    // As many copies are there already, which came while no controller was.
    filled.crowd(count + most)?;
    let crowded = rss(format!("after {most} Secrets of others"), filled.controller()?.rss()?);
    figures.push(crowded.beside("before them", before).target(Target::MostAbove(SLACK)));
    Ok(figures)
}
