//! What a node has to pull: our images, as they are released, uncompressed.

use anyhow::Result;
use certmint_local_cluster::images;

use crate::figure::{Figure, Target};
use crate::run::Run;

const MIB: f64 = 1_048_576.0;

pub(crate) fn images(run: &Run) -> Result<Vec<Figure>> {
    let [certmint, fetch] = images::ours(&run.cache)?;
    let figure = |what, bytes: u64, most| {
        Figure::new("images", what, bytes as f64 / MIB, "MiB").target(Target::Most(most))
    };
    Ok(vec![
        figure("certmint-fetch", fetch.size()?, 5.0),
        figure("certmint (webhook, controller)", certmint.size()?, 20.0),
    ])
}
