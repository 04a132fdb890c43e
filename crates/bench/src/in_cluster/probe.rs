//! Observation of a server over plain HTTP, with little load on the machine.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use http::{Request, Response, StatusCode, header};

use super::connection::{connect, send, with_timeout};
use super::{CounterGrowth, CounterQuery, MetricQuery, ReadinessQuery};
use crate::process;

/// Interval between two reads of a counter.
const COUNTER_INTERVAL: Duration = Duration::from_millis(50);
/// Interval between two readiness checks.
const READINESS_INTERVAL: Duration = Duration::from_millis(5);
/// Limit for a counter that does not change, and for a server that does not become ready.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Watches a counter until it has grown by its goal. The time starts at the last read of the initial value.
pub(super) async fn measure_growth(counter: &CounterQuery) -> Result<CounterGrowth> {
    let CounterQuery { metric, from, goal } = counter;
    let (mut begun, mut changed, mut last) = (Instant::now(), Instant::now(), *from);
    loop {
        // A failed read counts as an unchanged value.
        let (read_at, value) = (Instant::now(), read_metric(metric).await.unwrap_or(last));
        if value == *from {
            begun = read_at;
        }
        if value - from >= *goal {
            return Ok(CounterGrowth { by: value - from, seconds: begun.elapsed().as_secs_f64() });
        }
        if value != last {
            (changed, last) = (read_at, value);
        }
        if changed.elapsed() > CHANGE_TIMEOUT {
            bail!("{} stays at {value}; it should grow by {goal} from {from}", metric.name);
        }
        tokio::time::sleep(COUNTER_INTERVAL).await;
    }
}

/// Returns the seconds from the start of a process until it reports that it is ready.
pub(super) async fn measure_readiness(ready: &ReadinessQuery) -> Result<f64> {
    let ReadinessQuery { pid, address } = ready;
    let begun = Instant::now();
    loop {
        let answer = get(address, "/readyz").await;
        if answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::OK) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            return Ok(uptime()? - process::start_time(&stat)?);
        }
        if begun.elapsed() > CHANGE_TIMEOUT {
            bail!("not ready: {answer:?}");
        }
        tokio::time::sleep(READINESS_INTERVAL).await;
    }
}

/// Returns the metric's value, summed over all label sets.
pub(super) async fn read_metric(MetricQuery { address, name }: &MetricQuery) -> Result<f64> {
    let answer = get(address, "/metrics").await?;
    ensure!(answer.status() == StatusCode::OK, "{address} answered {}: {}", answer.status(), answer.body());
    sum(answer.body(), name).with_context(|| format!("{address} has no metric {name}"))
}

fn sum(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or(rest, |(_, rest)| rest);
        value.strip_prefix(' ')?.parse::<f64>().ok()
    });
    samples.reduce(|sum, value| sum + value)
}

async fn get(address: &str, path: &str) -> Result<Response<String>> {
    let request = Request::get(path).header(header::HOST, address).header(header::CONNECTION, "close");
    let request = request.body(String::new())?;
    with_timeout(path, async { send(connect(address).await?, request).await }).await
}

/// Returns the seconds since the machine started.
fn uptime() -> Result<f64> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    Ok(uptime.split_whitespace().next().context("no uptime")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "# HELP a_total Things.\na_total{reason=\"x y\"} 2\na_total{reason=\"z\"} 3\na_total_more 7\nb 0\n";
        assert_eq!(sum(text, "a_total"), Some(5.0));
        assert_eq!(sum(text, "b"), Some(0.0));
        assert_eq!(sum(text, "c"), None);
    }
}
