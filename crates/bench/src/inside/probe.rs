//! A server watched over plain HTTP, without taking much of the machine from it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use http::{Request, Response, StatusCode, header};

use super::connection::{answer, connect, in_time};
use super::{Climb, Counter, Ready, Value};
use crate::process;

/// Between two looks at a counter.
const PACE: Duration = Duration::from_millis(50);
/// Between two looks at what is ready within seconds.
const FAST_PACE: Duration = Duration::from_millis(5);
/// A counter that does not change for so long will not.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches a counter grow by its goal, from the last look at which it had not begun.
pub(super) async fn climb(counter: &Counter) -> Result<Climb> {
    let Counter { value: counted, from, goal } = counter;
    let (mut begun, mut changed, mut last) = (Instant::now(), Instant::now(), *from);
    loop {
        // Who does not answer has not changed.
        let (at, now) = (Instant::now(), value(counted).await.unwrap_or(last));
        if now == *from {
            begun = at;
        }
        if now - from >= *goal {
            return Ok(Climb { by: now - from, seconds: begun.elapsed().as_secs_f64() });
        }
        if now != last {
            (changed, last) = (at, now);
        }
        if changed.elapsed() > PATIENCE {
            bail!("{} stays at {now}, and was to grow by {goal} from {from}", counted.name);
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Seconds from the start of a process until it answers that it is ready.
pub(super) async fn ready(ready: &Ready) -> Result<f64> {
    let Ready { pid, address } = ready;
    let begun = Instant::now();
    loop {
        let answer = get(address, "/readyz").await;
        if answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::OK) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            return Ok(uptime()? - process::started(&stat)?);
        }
        if begun.elapsed() > PATIENCE {
            bail!("not ready: {answer:?}");
        }
        tokio::time::sleep(FAST_PACE).await;
    }
}

/// The number, summed up over all labels.
pub(super) async fn value(Value { address, name }: &Value) -> Result<f64> {
    let answer = get(address, "/metrics").await?;
    ensure!(answer.status() == StatusCode::OK, "{address} answered {}: {}", answer.status(), answer.body());
    sum(answer.body(), name).with_context(|| format!("{address} shows no {name}"))
}

fn sum(shown: &str, name: &str) -> Option<f64> {
    let samples = shown.lines().filter_map(|line| {
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
    in_time(path, async { answer(connect(address).await?, request).await }).await
}

/// Seconds since the machine started.
fn uptime() -> Result<f64> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    Ok(uptime.split_whitespace().next().context("no uptime")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_up_over_its_labels_and_told_from_others() {
        let shown = "# HELP a_total Things.\na_total{reason=\"x y\"} 2\na_total{reason=\"z\"} 3\na_total_more 7\nb 0\n";
        assert_eq!(sum(shown, "a_total"), Some(5.0));
        assert_eq!(sum(shown, "b"), Some(0.0));
        assert_eq!(sum(shown, "c"), None);
    }
}
