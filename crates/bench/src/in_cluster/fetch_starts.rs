//! Repeated starts of certmint-fetch, as its container starts it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use certmint_contract::pod_layout::{COMBINED_FILE, FETCH_BINARY, SECRET_DIR, TLS_DIR, TOKEN_PATH};

use super::{FetchStarts, StartCase, Timings};

/// Environment variable with the root directory of all paths that the program uses.
const ROOT: &str = "CERTMINT_ROOT";

/// Starts certmint-fetch once for each case, one start after the other, and measures each start.
pub(super) fn measure(starts: &FetchStarts) -> Result<Timings> {
    let begun = Instant::now();
    let took: Vec<f64> =
        starts.starts.iter().map(|start| start_once(starts.pid, start)).collect::<Result<_>>()?;
    Ok(Timings::of(took, begun.elapsed().as_secs_f64()))
}

/// Starts certmint-fetch once, and returns the milliseconds until its process has ended.
fn start_once(pid: u32, start: &StartCase) -> Result<f64> {
    if matches!(start, StartCase::Files) {
        return timed(&mut fetch(pid, "wait")?);
    }
    // The files are written to a new directory in the container's volume, because the root file system is read-only.
    let root = Path::new(TLS_DIR).join("bench");
    let outside = |path: &Path| -> PathBuf { PathBuf::from(format!("/proc/{pid}/root{}", path.display())) };
    let below = |path: &str| outside(&root).join(path.trim_start_matches('/'));
    fs::create_dir_all(below(TLS_DIR)).context("cannot create a directory in the container's volume")?;
    let token = below(TOKEN_PATH);
    fs::create_dir_all(token.parent().context("the token has a directory")?)?;
    if let StartCase::Token(fresh) = start {
        fs::write(token, fresh)?;
    } else {
        symlink(TOKEN_PATH, token)?;
        symlink(SECRET_DIR, below(SECRET_DIR))?;
    }
    let took = timed(fetch(pid, "once")?.env(ROOT, &root))?;
    ensure!(below(TLS_DIR).join(COMBINED_FILE).exists(), "certmint-fetch ended without writing its files");
    fs::remove_dir_all(outside(&root))?;
    Ok(took)
}

/// Returns a command that runs the program with the environment, the file systems and the network of process `pid`.
fn fetch(pid: u32, command: &str) -> Result<Command> {
    let environment = fs::read_to_string(format!("/proc/{pid}/environ"))?;
    let variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
    let mut fetch = Command::new("nsenter");
    fetch.args(["--target", &pid.to_string(), "--mount", "--net", FETCH_BINARY, command]);
    fetch.env_clear().envs(variables).env("PATH", std::env::var("PATH")?);
    fetch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(fetch)
}

fn timed(fetch: &mut Command) -> Result<f64> {
    let begun = Instant::now();
    let ended = fetch.spawn().context("nsenter cannot be started")?.wait_with_output()?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(ended.status.success(), "certmint-fetch failed: {}", String::from_utf8_lossy(&ended.stderr));
    Ok(took)
}
