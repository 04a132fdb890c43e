//! A server watched over plain HTTP, without taking much of the machine from it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Climb, Counter, Ready};

/// Between two looks at a counter.
const PACE: Duration = Duration::from_millis(50);
/// Between two looks at what is ready within seconds.
const FAST_PACE: Duration = Duration::from_millis(5);
/// A counter that does not change for so long will not.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches a counter grow by its goal, from the last look at which it had not begun.
pub(super) async fn climb(counter: &Counter) -> Result<Climb> {
    let Counter { address, name, from, goal } = counter;
    let before = match from {
        Some(from) => *from,
        None => value(address, name).await?,
    };
    let (mut begun, mut changed, mut last) = (Instant::now(), Instant::now(), before);
    loop {
        // Who does not answer has not changed.
        let (at, now) = (Instant::now(), value(address, name).await.unwrap_or(last));
        if now == before {
            begun = at;
        }
        if now - before >= *goal {
            return Ok(Climb { by: now - before, seconds: begun.elapsed().as_secs_f64() });
        }
        if now != last {
            (changed, last) = (at, now);
        }
        if changed.elapsed() > PATIENCE {
            bail!("{name} stays at {now}, and was to grow by {goal} from {before}");
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Seconds from the start of a process until it answers that it is ready.
pub(super) async fn ready(ready: &Ready) -> Result<f64> {
    let Ready { pid, address } = ready;
    let begun = Instant::now();
    loop {
        let answer = get(address, "/readyz").await.unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200 ") {
            return Ok(uptime()? - started(*pid)?);
        }
        if begun.elapsed() > PATIENCE {
            bail!("not ready: {answer}");
        }
        tokio::time::sleep(FAST_PACE).await;
    }
}

/// The sum over all labels.
async fn value(address: &str, name: &str) -> Result<f64> {
    let shown = get(address, "/metrics").await?;
    let samples = shown.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or(rest, |(_, rest)| rest);
        value.strip_prefix(' ')?.parse::<f64>().ok()
    });
    Ok(samples.sum())
}

async fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Seconds since the machine started.
fn uptime() -> Result<f64> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    Ok(uptime.split_whitespace().next().context("no uptime")?.parse()?)
}

/// Seconds from the machine's start to the process'.
fn started(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no process name")?;
    let ticks: f64 = fields.split_whitespace().nth(19).context("a short line")?.parse()?;
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}
