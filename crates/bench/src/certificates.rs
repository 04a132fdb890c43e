//! Certificates for 10,000 workloads through a real API server, and all of them once more.

use anyhow::Result;

use crate::figure::{Figure, Target};
use crate::filled::{Filled, Issuance};
use crate::in_process;
use crate::run::Run;

/// Secrets for workloads that were there before the controller: from the first Secret that is seen to the last.
pub(crate) fn secrets(run: &Run) -> Result<Vec<Figure>> {
    const ROW: &str = "secrets";
    let filled = run.filled()?;
    let Filled { count, raw, first, from_scale_up, .. } = filled;
    let rate = Figure::new(ROW, format!("{count} Secrets for as many workloads"), first.climb.rate(), "/s");
    let mut figures = vec![
        rate.beside("equal Secrets, created by a plain client", raw.rate()).target(Target::LeastTimes(0.5)),
        Figure::new(ROW, "from the Deployment scaled up to the last Secret", *from_scale_up, "s"),
    ];
    figures.extend(costs(ROW, *count, first, in_process::certificate(run.quick)?));
    Ok(figures)
}

/// The same Secrets written anew, because the policy's `trustDomain` was changed: from the first that is seen to
/// the last.
pub(crate) fn reissue(run: &Run) -> Result<Vec<Figure>> {
    const ROW: &str = "reissue";
    let filled = run.filled()?;
    let raw = filled.replace()?;
    let again = filled.reissue()?;
    let what = format!("{} Secrets replaced after a change of the policy", filled.count);
    let mut figures = vec![
        Figure::new(ROW, "all of them", again.climb.seconds, "s"),
        Figure::new(ROW, what, again.climb.rate(), "/s")
            .beside("equal Secrets, replaced by a plain client", raw.rate()),
    ];
    // The workload whose Secret the raw ones are copies of has its own issued anew, too.
    figures.extend(costs(ROW, filled.count + 1, &again, in_process::certificate(run.quick)?));
    Ok(figures)
}

/// What each certificate cost API server and controller; `core` is the seconds that the certificate alone takes.
fn costs(row: &'static str, count: usize, issuance: &Issuance, core: f64) -> [Figure; 5] {
    let count = count as f64;
    let Issuance { cpu, requests, dropped, .. } = issuance;
    let each = |number: usize| number as f64 / count;
    let events = requests.events as f64 + dropped;
    [
        Figure::new(row, "API writes a certificate", each(requests.writes()), "").target(Target::Most(2.0)),
        Figure::new(row, "of them Events", each(requests.events), ""),
        Figure::new(row, format!("Events dropped, of {events}"), *dropped, ""),
        Figure::new(row, "API reads a certificate", each(requests.reads), ""),
        Figure::new(row, "controller CPU a certificate", cpu / count * 1e3, "ms")
            .beside("the certificate alone, in process", core * 1e3)
            .target(Target::Most(0.5)),
    ]
}
