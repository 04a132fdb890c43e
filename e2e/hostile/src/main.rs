//! A caller that sends what nobody should send, and tells what came back.
//!
//! For each input one line, `NAME<tab>OUTCOME`: the status and the error code of an answer, or how the connection
//! ended. Every input goes to every server at the same time, with the same outcome from each.

mod connection;
mod floods;
mod reviews;
mod siege;
mod transport;

use anyhow::{Result, ensure};
use clap::Parser;
use futures::future::{join_all, try_join_all};
use std::{future::Future, net::SocketAddr, pin::Pin, time::Duration};

/// What an input came to.
type Outcome = Pin<Box<dyn Future<Output = Result<String>>>>;

/// An input by its name.
type Input = (&'static str, fn(Target) -> Outcome);

/// A server under attack.
#[derive(Clone, Copy, Debug)]
struct Target {
    tls: SocketAddr,
    probes: SocketAddr,
    server: Server,
}

/// Which of the two servers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Server {
    Webhook,
    Controller,
}

impl Server {
    fn path(self) -> &'static str {
        match self {
            Self::Webhook => "/mutate",
            Self::Controller => "/v1/bundle",
        }
    }
}

/// Attacks servers at their own addresses, ports 8443 (TLS) and 9402 (probes).
#[derive(Debug, Parser)]
struct Args {
    /// Which server runs there.
    #[arg(long)]
    server: Server,
    /// Lay siege to them for so many seconds, in place of everything else.
    #[arg(long)]
    siege: Option<u64>,
    /// The servers' IP addresses.
    #[arg(required = true)]
    addresses: Vec<std::net::IpAddr>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Args { server, siege, addresses } = Args::parse();
    let target = |address| Target {
        tls: SocketAddr::new(address, 8443),
        probes: SocketAddr::new(address, 9402),
        server,
    };
    let targets: Vec<Target> = addresses.into_iter().map(target).collect();
    if let Some(seconds) = siege {
        siege::lay(&targets, Duration::from_secs(seconds)).await;
        return Ok(());
    }
    let reviews = if server == Server::Webhook { reviews::INPUTS } else { &[] };
    for input in reviews.iter().chain(transport::INPUTS) {
        attack(input, &targets, is_impatience).await?;
    }
    let never = |_: &str| false;
    join_all(transport::SLOW.iter().map(|input| attack(input, &targets, never)))
        .await
        .into_iter()
        .collect::<Result<()>>()?;
    for flood in floods::INPUTS {
        attack(flood, &targets, never).await?;
    }
    Ok(())
}

/// How often an input is sent that did not get through to where it is judged.
const TRIES: usize = 5;

/// Sends an input to every server, again where it came to nothing or to what `again` says.
async fn attack((name, send): &Input, targets: &[Target], again: fn(&str) -> bool) -> Result<()> {
    let outcomes = try_join_all(targets.iter().map(|target| async move {
        let mut outcome = send(*target).await;
        for _ in 1..TRIES {
            if outcome.as_ref().is_ok_and(|outcome| !again(outcome)) {
                break;
            }
            outcome = send(*target).await;
        }
        outcome
    }));
    let mut outcomes = outcomes.await.map_err(|error| error.context(*name))?;
    outcomes.dedup();
    ensure!(outcomes.len() == 1, "{name}: the servers disagree: {}", outcomes.join(" / "));
    println!("{name}\t{}", outcomes.concat());
    Ok(())
}

/// Whether a server's patience ended before an input had arrived that nobody held back: the machine is busy.
fn is_impatience(outcome: &str) -> bool {
    ["408 BadRequest", "ended"].contains(&outcome)
}
