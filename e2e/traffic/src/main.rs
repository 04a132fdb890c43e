//! Constant mutual-TLS traffic that counts every failed request.
//!
//! Each request has a TCP and TLS connection of its own, without resumption and without retries: whatever a
//! client could see go wrong is counted. The client's certificate is read again whenever its files changed.

mod identity;
mod request;
mod tally;

use anyhow::Result;
use clap::Parser;
use identity::Identity;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tally::Tally;
use tokio::{signal::unix, sync::Mutex, time};

/// Sends GET requests at a constant rate until SIGTERM or SIGINT, and prints a line of JSON each second.
#[derive(Debug, Parser)]
struct Args {
    /// Host of the service, as in its certificate.
    #[arg(long)]
    host: String,
    /// Port of the service.
    #[arg(long, default_value_t = 443)]
    port: u16,
    /// Directory with tls.crt, tls.key and ca.crt.
    #[arg(long, default_value = "/var/run/secrets/certmint.dev")]
    tls_dir: PathBuf,
    /// Requests per second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Seconds until a request without an answer counts as failed.
    #[arg(long, default_value_t = 10)]
    timeout: u64,
}

/// How many requests may be under way at once: a server that stalls must not exhaust the client.
const MOST_UNDER_WAY: usize = 512;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Args { host, port, tls_dir, rate, timeout } = Args::parse();
    let target = Arc::new(request::Target::new(&host, port, Duration::from_secs(timeout))?);
    let identity = Arc::new(Mutex::new(Identity::load(&tls_dir)?));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let slots = Arc::new(tokio::sync::Semaphore::new(MOST_UNDER_WAY));

    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    let mut tick = time::interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut report = time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = report.tick() => tally.lock().await.print(),
            _ = tick.tick() => {
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
                let (target, identity, tally) = (Arc::clone(&target), Arc::clone(&identity), Arc::clone(&tally));
                tokio::spawn(async move {
                    let outcome = request::send(&target, &identity).await;
                    tally.lock().await.count(outcome);
                    drop(slot);
                });
            }
        }
    }
    // What is under way still counts: all slots come back when the last request has ended.
    let _all = slots.acquire_many(u32::try_from(MOST_UNDER_WAY)?).await?;
    tally.lock().await.print();
    Ok(())
}
