//! certmint-fetch, started again and again as its container starts it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use certmint_contract::pod_layout::{COMBINED_FILE, FETCH_BINARY, SECRET_DIR, TLS_DIR, TOKEN_PATH};

use super::{Pace, Start, Starts};

/// Another root directory for all that the program touches.
const ROOT: &str = "CERTMINT_ROOT";

/// Starts the program so many times.
pub(super) fn measure(starts: &Starts) -> Result<Pace> {
    let begun = Instant::now();
    let took: Vec<f64> = starts.starts.iter().map(|start| once(starts.pid, start)).collect::<Result<_>>()?;
    Ok(Pace::of(took, begun.elapsed().as_secs_f64()))
}

/// Milliseconds from the start of a process to its end.
fn once(pid: u32, start: &Start) -> Result<f64> {
    if matches!(start, Start::Files) {
        return timed(&mut fetch(pid, "wait")?);
    }
    // An empty volume of its own within the container's: its root is read-only.
    let root = Path::new(TLS_DIR).join("bench");
    let outside = |path: &Path| -> PathBuf { PathBuf::from(format!("/proc/{pid}/root{}", path.display())) };
    let below = |path: &str| outside(&root).join(path.trim_start_matches('/'));
    fs::create_dir_all(below(TLS_DIR)).context("no room in the container's volume")?;
    let token = below(TOKEN_PATH);
    fs::create_dir_all(token.parent().context("a token lies in a directory")?)?;
    if let Start::Token(fresh) = start {
        fs::write(token, fresh)?;
    } else {
        symlink(TOKEN_PATH, token)?;
        symlink(SECRET_DIR, below(SECRET_DIR))?;
    }
    let took = timed(fetch(pid, "once")?.env(ROOT, &root))?;
    ensure!(below(TLS_DIR).join(COMBINED_FILE).exists(), "certmint-fetch ended without its files");
    fs::remove_dir_all(outside(&root))?;
    Ok(took)
}

/// The program with the environment, the file systems and the network of the one that runs.
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
