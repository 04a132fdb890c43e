//! wrk: many requests over connections that stay.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::command;

/// What to send, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) url: &'a str,
    pub(crate) body: &'a str,
    /// Connections, each with one request under way.
    pub(crate) clients: u32,
    pub(crate) seconds: u32,
}

/// How it went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) requests: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
}

/// Sends `load` from the cluster's node.
///
/// # Errors
/// When any answer is not 200.
pub(crate) fn run(cluster: &Cluster, directory: &Path, load: Load<'_>) -> Result<Outcome> {
    let Load { url, body, clients, seconds } = load;
    let script = directory.join("request.lua");
    // No long string of Lua's ends with these brackets in JSON.
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
        "not all was answered:\n{output}"
    );
    outcome(&output).with_context(|| format!("wrk printed something else:\n{output}"))
}

/// What wrk calls itself, with its version; `None` where it is not installed.
pub(crate) fn version() -> Option<String> {
    // It prints its usage too, and fails.
    let said = command::outcome(Command::new("wrk").arg("--version"), "").ok()?.stdout;
    let said = String::from_utf8_lossy(&said);
    Some(said.lines().next()?.split(" [").next()?.to_owned())
}

fn outcome(output: &str) -> Option<Outcome> {
    let percentile = |name: &str| {
        let line = output.lines().find_map(|line| line.trim().strip_prefix(name))?;
        milliseconds(line.trim())
    };
    let requests = output.lines().find(|line| line.contains(" requests in "))?;
    Some(Outcome {
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
    fn what_wrk_prints_is_read() {
        let printed = "  Latency Distribution\n     50%   66.00us\n     75%   80.00us\n     90%  0.95ms\n     \
                       99%    1.10ms\n  120000 requests in 10.00s, 20.00MB read\nRequests/sec:  12000.00\n";
        let Outcome { requests, p50, p99 } = outcome(printed).unwrap();
        assert_eq!((requests, p99), (120_000.0, 1.1));
        assert!((p50 - 0.066).abs() < 1e-9);
    }
}
