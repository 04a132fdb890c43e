//! Sends constant mutual-TLS traffic to a service, and counts every failed request.
//!
//! Each request uses a new TCP and TLS connection, without resumption and without retries, so that every failure that
//! a client can notice is counted. The client's certificate is reloaded when its files change.

mod client_key_pair;
mod request;
mod request_counts;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tokio::signal::unix;
use tokio::sync::Mutex;
use tokio::time;

use crate::client_key_pair::ClientKeyPair;
use crate::request_counts::RequestCounts;

/// Sends GET requests at a constant rate until SIGTERM or SIGINT, and prints a line of JSON each second.
#[derive(Debug, Parser)]
struct Args {
    /// Host name of the service. It must be in the service's certificate.
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
    /// Seconds after which a request without a response fails.
    #[arg(long, default_value_t = 10)]
    timeout: u64,
}

/// Maximum number of requests at the same time, so that a server that stalls does not exhaust the client's memory.
const MAX_CONCURRENT_REQUESTS: usize = 512;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Args { host, port, tls_dir, rate, timeout } = Args::parse();
    let target = Arc::new(request::TargetService::new(&host, port, Duration::from_secs(timeout))?);
    let key_pair = Arc::new(Mutex::new(ClientKeyPair::load(&tls_dir)?));
    let counts = Arc::new(Mutex::new(RequestCounts::default()));
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONCURRENT_REQUESTS));

    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    let mut tick = time::interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut report = time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = report.tick() => counts.lock().await.print(),
            _ = tick.tick() => {
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
                let (target, key_pair, counts) = (Arc::clone(&target), Arc::clone(&key_pair), Arc::clone(&counts));
                tokio::spawn(async move {
                    let result = request::send(&target, &key_pair).await;
                    counts.lock().await.add(result);
                    drop(slot);
                });
            }
        }
    }
    // Requests that still run are counted too. All slots are free when the last request has ended.
    let _all = slots.acquire_many(u32::try_from(MAX_CONCURRENT_REQUESTS)?).await?;
    counts.lock().await.print();
    Ok(())
}
