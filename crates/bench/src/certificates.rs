//! Rows `secrets` and `reissue`: certificates for 10,000 workloads through a real API server. The baseline is a plain
//! client, which this program runs in the cluster's network. It writes one copy of a Secret for each workload.

use anyhow::Result;

use crate::in_process;
use crate::loaded_cluster::{Issuance, LoadedCluster};
use crate::result::{Measurement, Target};
use crate::run::Run;

/// Measures the issuance for workloads that existed before the controller started, from the first observed
/// Secret to the last.
pub(crate) fn secrets(run: &Run) -> Result<Vec<Measurement>> {
    const ROW: &str = "secrets";
    let loaded = run.loaded_cluster()?;
    let LoadedCluster { count, plain_writes, first, from_scale_up, .. } = loaded;
    let rate =
        Measurement::new(ROW, format!("{count} Secrets for {count} workloads"), first.growth.rate(), "/s");
    let mut measurements = vec![
        rate.compared_with("equal Secrets, created by a plain client", plain_writes.rate())
            .target(Target::MinTimes(0.5)),
        Measurement::new(ROW, "from the start of the controller to the last Secret", *from_scale_up, "s"),
    ];
    measurements.extend(costs(ROW, *count, first, in_process::certificate(run.quick)?));
    Ok(measurements)
}

/// Measures the reissue of the certificates of all workloads after a change of the policy's `trustDomain`, from the
/// first observed Secret to the last.
pub(crate) fn reissue(run: &Run) -> Result<Vec<Measurement>> {
    const ROW: &str = "reissue";
    let loaded = run.loaded_cluster()?;
    let plain_writes = loaded.replace()?;
    let reissued = loaded.reissue()?;
    let what = format!("{} Secrets replaced after a change of the policy", loaded.count);
    let mut measurements = vec![
        Measurement::new(ROW, "time until all certificates are reissued", reissued.growth.seconds, "s"),
        Measurement::new(ROW, what, reissued.growth.rate(), "/s")
            .compared_with("equal Secrets, replaced by a plain client", plain_writes.rate()),
    ];
    // The certificate of the pattern workload, whose Secret the plain client copies, is reissued too.
    measurements.extend(costs(ROW, loaded.count + 1, &reissued, in_process::certificate(run.quick)?));
    Ok(measurements)
}

/// Returns the API requests and the processor time of the controller for each certificate. `core` is the time in
/// seconds that issuing one certificate takes in this process.
fn costs(row: &'static str, count: usize, issuance: &Issuance, core: f64) -> [Measurement; 5] {
    let count = count as f64;
    let Issuance { cpu, requests, dropped, .. } = issuance;
    let per_certificate = |number: usize| number as f64 / count;
    let events = requests.events as f64 + dropped;
    [
        Measurement::new(row, "API writes for each certificate", per_certificate(requests.writes()), "")
            .target(Target::Max(2.0)),
        Measurement::new(row, "part of the writes: Events", per_certificate(requests.events), ""),
        Measurement::new(row, format!("Events dropped, of {events}"), *dropped, ""),
        Measurement::new(row, "API reads for each certificate", per_certificate(requests.reads), ""),
        Measurement::new(row, "controller CPU for each certificate", cpu / count * 1e3, "ms")
            .compared_with("only the certificate, without a cluster", core * 1e3)
            .target(Target::Max(0.5)),
    ]
}
