//! How soon a controller serves that finds a full cluster.

use anyhow::Result;

use crate::Run;
use crate::figure::{Figure, Target};

/// From the start of the process to `/readyz`.
pub(crate) fn start(run: &Run) -> Result<Vec<Figure>> {
    let filled = run.filled()?;
    let what = format!("process start to /readyz with {} Secrets", filled.count);
    Ok(vec![Figure::new("start", what, filled.restart()?, "s").target(Target::Most(3.0))])
}
