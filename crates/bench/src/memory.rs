//! What the controller holds in memory, by how much there is to look after; and the most it held until then, which
//! its limit has to allow.

use anyhow::Result;
use certmint_local_cluster::cluster::process::Memory;

use crate::figure::{Figure, Target};
use crate::filled::Filled;
use crate::process::mib;
use crate::run::Run;
use crate::statistics::median;

const ROW: &str = "memory";
/// Of others' Secrets the controller is to know nothing; what it works with meanwhile comes and goes.
const SLACK: f64 = 1.0;

/// RSS, each time when all has been issued that there was to issue.
pub(crate) fn memory(run: &Run) -> Result<Vec<Figure>> {
    let filled = run.filled()?;
    let Filled { count, idle, managed, .. } = filled;
    let more = if run.quick { *count } else { 40_000 };
    let most = count + more;
    if !run.quick {
        // Whatever ran before is to leave nothing in what is measured.
        filled.restart()?;
    }
    filled.grow(more)?;
    let grown = filled.controller()?.memory()?;
    let managing = |count: usize, memory: &Memory, most| {
        rss(&format!("with {count} Secrets issued"), memory)
            .beside("with nothing to do", mib(idle.resident_kib))
            .target(Target::Most(most))
    };
    let mut figures = vec![
        rss("with nothing to do", idle).target(Target::Most(20.0)),
        peak("the most until then", idle),
        managing(*count, managed, 64.0),
        peak("the most until then", managed),
        managing(most, &grown, 150.0),
        peak("the most until then", &grown),
    ];
    figures.extend(crowded(filled, most, if run.quick { 0 } else { 3 })?);
    Ok(figures)
}

/// Whether Secrets of others take anything. Controllers are compared that were started for it: in one that has given
/// memory back, as much could grow unseen.
fn crowded(filled: &Filled, more: usize, starts: usize) -> Result<[Figure; 2]> {
    let before = started(filled, starts)?;
    let calm = filled.controller()?.memory()?;
    filled.crowd(more)?;
    let meanwhile = filled.controller()?.memory()?;
    let after = started(filled, starts)?;
    let what = format!("RSS after a start, with {more} Secrets of others more");
    Ok([
        Figure::new(ROW, what, after, "MiB").beside("without them", before).target(Target::MostAbove(SLACK)),
        peak("the most while they came", &meanwhile).beside("before they came", mib(calm.peak_kib)),
    ])
}

/// RSS of a controller that has looked at everything: the median of some starts, or that of the one that runs.
fn started(filled: &Filled, starts: usize) -> Result<f64> {
    if starts == 0 {
        filled.rested()?;
        return filled.controller()?.rss();
    }
    let each = (0..starts).map(|_| {
        filled.restart()?;
        filled.rested()?;
        filled.controller()?.rss()
    });
    Ok(median(each.collect::<Result<_>>()?))
}

fn rss(what: &str, memory: &Memory) -> Figure {
    Figure::new(ROW, format!("RSS {what}"), mib(memory.resident_kib), "MiB")
}

fn peak(what: &str, memory: &Memory) -> Figure {
    Figure::new(ROW, what, mib(memory.peak_kib), "MiB")
}
