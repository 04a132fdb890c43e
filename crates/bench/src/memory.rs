//! What the controller holds in memory, by how much there is to look after; and the most it held until then, which
//! its limit has to allow.

use anyhow::Result;

use crate::Run;
use crate::figure::{Figure, Target};
use crate::filled::Filled;
use crate::process::Memory;

const ROW: &str = "memory";
/// Of others' Secrets the controller is to know nothing; what it works with meanwhile comes and goes.
const SLACK: f64 = 1.0;

/// RSS, each time when all has been issued that there was to issue.
pub(crate) fn memory(run: &Run) -> Result<Vec<Figure>> {
    let filled = run.filled()?;
    let Filled { count, idle, managed, .. } = filled;
    let rss = |what: &str, memory: Memory| Figure::new(ROW, format!("RSS {what}"), memory.rss, "MiB");
    let peak = |memory: Memory| Figure::new(ROW, "the most until then", memory.peak, "MiB");
    let mut figures = vec![
        rss("with nothing to do", *idle).target(Target::Most(20.0)),
        peak(*idle),
        rss(&format!("with {count} Secrets issued"), *managed).target(Target::Most(64.0)),
        peak(*managed),
    ];
    let most = if run.quick { *count } else { 50_000 };
    if most > *count {
        filled.grow(most)?;
        let grown = filled.controller()?.memory()?;
        figures.push(rss(&format!("with {most}"), grown).target(Target::Most(150.0)));
        figures.push(peak(grown));
    }
    let before = filled.controller()?.rss()?;
    // As many copies are there already, which came while no controller was.
    filled.crowd(count + most)?;
    let crowded = filled.controller()?.memory()?;
    let after = rss(&format!("after {most} Secrets of others"), crowded).beside("before them", before);
    figures.push(after.target(Target::MostAbove(SLACK)));
    figures.push(peak(crowded));
    Ok(figures)
}
