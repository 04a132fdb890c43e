//! certmint-fetch, started again and again as its container starts it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use certmint_contract::pod_layout::{COMBINED_FILE, FETCH_BINARY, SECRET_DIR, TLS_DIR, TOKEN_PATH};

use super::{Pace, Starts};

/// Another root directory for all that the program touches.
const ROOT: &str = "CERTMINT_ROOT";

/// Starts the program so many times, each with an empty volume of its own.
pub(super) fn measure(starts: &Starts) -> Result<Pace> {
    let begun = Instant::now();
    let took: Vec<f64> = (0..starts.count).map(|_| once(starts)).collect::<Result<_>>()?;
    Ok(Pace::of(took, begun.elapsed().as_secs_f64()))
}

/// Milliseconds from the start of a process to its end with the files in place.
fn once(starts: &Starts) -> Result<f64> {
    let Starts { pid, secret, .. } = starts;
    // Within the container's own volume: its root is read-only.
    let root = Path::new(TLS_DIR).join("bench");
    let outside = |path: &Path| -> PathBuf { PathBuf::from(format!("/proc/{pid}/root{}", path.display())) };
    let below = |path: &str| outside(&root).join(path.trim_start_matches('/'));
    let token = below(TOKEN_PATH);
    fs::create_dir_all(below(TLS_DIR)).context("no room in the container's volume")?;
    fs::create_dir_all(token.parent().context("a token lies in a directory")?)?;
    symlink(TOKEN_PATH, &token)?;
    if *secret {
        symlink(SECRET_DIR, below(SECRET_DIR))?;
    }
    let environment = fs::read_to_string(format!("/proc/{pid}/environ"))?;
    let variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
    let mut fetch = Command::new("nsenter");
    fetch.args(["--target", &pid.to_string(), "--mount", "--net", FETCH_BINARY, "once"]);
    fetch.env_clear().envs(variables).env("PATH", std::env::var("PATH")?).env(ROOT, &root);
    fetch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let ended = fetch.spawn().context("nsenter cannot be started")?.wait_with_output()?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success() && below(TLS_DIR).join(COMBINED_FILE).exists(), "no files: {said}");
    fs::remove_dir_all(outside(&root))?;
    Ok(took)
}
