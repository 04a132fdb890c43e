//! wrk, the load generator: many requests over persistent connections.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::command;

/// Request to send, and its load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) url: &'a str,
    pub(crate) body: &'a str,
    /// Number of connections, each with one request at a time.
    pub(crate) clients: u32,
    pub(crate) seconds: u32,
}

/// Result of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadResult {
    pub(crate) requests: f64,
    /// Median latency in milliseconds.
    pub(crate) p50: f64,
    /// 99th percentile of the latency in milliseconds.
    pub(crate) p99: f64,
}

/// Sends `load` from the cluster's node. `directory` receives wrk's script.
///
/// # Errors
/// When a response has a status other than 2xx or 3xx, or a connection fails.
pub(crate) fn run(cluster: &Cluster, directory: &Path, load: Load<'_>) -> Result<LoadResult> {
    let Load { url, body, clients, seconds } = load;
    let script = directory.join("request.lua");
    // The bodies do not contain `]==]`, which would end this long string of Lua, so they need no escaping.
    fs::write(
        &script,
        format!(
            "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\nwrk.body = [==[{body}]==]\n"
        ),
    )?;
    let output = command::output(
        cluster
            .command("wrk")
            .args(["--latency", "--threads", &clients.min(2).to_string()])
            .args(["--connections", &clients.to_string(), "--duration", &format!("{seconds}s"), "--script"])
            .arg(&script)
            .arg(url),
    )?;
    ensure!(
        !output.contains("Non-2xx") && !output.contains("Socket errors"),
        "some requests failed:\n{output}"
    );
    parse(&output).with_context(|| format!("wrk's output has an unknown form:\n{output}"))
}

/// Returns wrk's name and version, or `None` when it is not installed.
pub(crate) fn version() -> Option<String> {
    // wrk prints its usage after the version, and exits with an error.
    let printed = command::outcome(Command::new("wrk").arg("--version"), "").ok()?.stdout;
    let printed = String::from_utf8_lossy(&printed);
    Some(printed.lines().next()?.split(" [").next()?.to_owned())
}

fn parse(output: &str) -> Option<LoadResult> {
    let percentile = |name: &str| {
        let line = output.lines().find_map(|line| line.trim().strip_prefix(name))?;
        milliseconds(line.trim())
    };
    let requests = output.lines().find(|line| line.contains(" requests in "))?;
    Some(LoadResult {
        requests: requests.split_whitespace().next()?.parse().ok()?,
        p50: percentile("50%")?,
        p99: percentile("99%")?,
    })
}

fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = if let Some(number) = text.strip_suffix("us") {
        (number, 0.001)
    } else if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else {
        (text.strip_suffix('s')?, 1000.0)
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_wrk_is_parsed() {
        let printed = "  Latency Distribution\n     50%   66.00us\n     75%   80.00us\n     90%  0.95ms\n     \
                       99%    1.10ms\n  120000 requests in 10.00s, 20.00MB read\nRequests/sec:  12000.00\n";
        let LoadResult { requests, p50, p99 } = parse(printed).unwrap();
        assert_eq!((requests, p99), (120_000.0, 1.1));
        assert!((p50 - 0.066).abs() < 1e-9);
    }
}
