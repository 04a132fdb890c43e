//! Row `images`: uncompressed size of the released images, which each node has to pull.

use anyhow::Result;
use certmint_local_cluster::images;

use crate::result::{Measurement, Target};
use crate::run::Run;

const MIB: f64 = 1_048_576.0;

pub(crate) fn images(run: &Run) -> Result<Vec<Measurement>> {
    let [certmint, fetch] = images::release_images(&run.cache)?;
    let measurement = |what, bytes: u64, max| {
        Measurement::new("images", what, bytes as f64 / MIB, "MiB").target(Target::Max(max))
    };
    Ok(vec![
        measurement("certmint-fetch", fetch.size()?, 5.0),
        measurement("certmint (webhook, controller)", certmint.size()?, 20.0),
    ])
}
