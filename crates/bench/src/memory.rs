//! Row `memory`: memory of the controller, by the number of workloads, and its peak, which the memory limit has
//! to allow.

use anyhow::Result;
use certmint_local_cluster::cluster::process::Memory;

use crate::loaded_cluster::LoadedCluster;
use crate::process::mib;
use crate::result::{Measurement, Target};
use crate::run::Run;
use crate::statistics::median;

const ROW: &str = "memory";
/// Maximum growth of the controller by foreign Secrets, in MiB. Short-lived allocations cause a small growth.
const MAX_FOREIGN_GROWTH_MIB: f64 = 1.0;

/// Measures the resident memory (RSS) of the controller for several numbers of workloads, each time after the
/// controller has issued all certificates.
pub(crate) fn memory(run: &Run) -> Result<Vec<Measurement>> {
    let loaded = run.loaded_cluster()?;
    let LoadedCluster { count, idle, managed, .. } = loaded;
    let more = if run.quick { *count } else { 40_000 };
    let total = count + more;
    if !run.quick {
        // A new process does not have the memory that the controller allocated during earlier rows.
        loaded.restart()?;
    }
    loaded.add_workloads(more)?;
    let grown = loaded.controller()?.memory()?;
    let managing = |count: usize, memory: &Memory, max| {
        rss(&format!("with {count} Secrets issued"), memory)
            .compared_with("without certificates", mib(idle.resident_kib))
            .target(Target::Max(max))
    };
    let mut measurements = vec![
        rss("without certificates", idle).target(Target::Max(20.0)),
        peak("largest RSS until then", idle),
        managing(*count, managed, 64.0),
        peak("largest RSS until then", managed),
        managing(total, &grown, 150.0),
        peak("largest RSS until then", &grown),
    ];
    measurements.extend(foreign_secrets(loaded, total, if run.quick { 0 } else { 3 })?);
    Ok(measurements)
}

/// Compares the memory of freshly started controllers, without and with `more` foreign Secrets. A controller that has
/// freed memory before could reuse that memory, so its RSS would not show the growth.
fn foreign_secrets(loaded: &LoadedCluster, more: usize, starts: usize) -> Result<[Measurement; 2]> {
    let before = rss_after_starts(loaded, starts)?;
    let before_creation = loaded.controller()?.memory()?;
    loaded.add_foreign_secrets(more)?;
    let after_creation = loaded.controller()?.memory()?;
    let after = rss_after_starts(loaded, starts)?;
    let what = format!("RSS after a start, with {more} more Secrets that Certmint did not create");
    Ok([
        Measurement::new(ROW, what, after, "MiB")
            .compared_with("without these Secrets", before)
            .target(Target::MaxAbove(MAX_FOREIGN_GROWTH_MIB)),
        peak("largest RSS while these Secrets were created", &after_creation)
            .compared_with("before", mib(before_creation.peak_kib)),
    ])
}

/// Returns the RSS of a controller that has no work left: the median of several starts, or that of the running
/// controller when `starts` is 0.
fn rss_after_starts(loaded: &LoadedCluster, starts: usize) -> Result<f64> {
    if starts == 0 {
        loaded.wait_until_idle()?;
        return loaded.controller()?.rss();
    }
    let rss_after_each = (0..starts).map(|_| {
        loaded.restart()?;
        loaded.wait_until_idle()?;
        loaded.controller()?.rss()
    });
    Ok(median(rss_after_each.collect::<Result<_>>()?))
}

fn rss(what: &str, memory: &Memory) -> Measurement {
    Measurement::new(ROW, format!("RSS {what}"), mib(memory.resident_kib), "MiB")
}

fn peak(what: &str, memory: &Memory) -> Measurement {
    Measurement::new(ROW, what, mib(memory.peak_kib), "MiB")
}
