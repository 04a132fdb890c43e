//! Sends malformed and hostile requests to Certmint's servers, and prints the responses.
//!
//! The output has one line for each input, `NAME<tab>RESPONSE`: the status and the error code of the response, or how
//! the connection ended. Each input is sent to all servers at the same time, and all must respond in the same way.

mod connection;
mod floods;
mod reviews;
mod siege;
mod transport;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use futures::future::{join_all, try_join_all};

/// Future of the response to an input.
type ResponseFuture = Pin<Box<dyn Future<Output = Result<String>>>>;

/// Name of an input, and the function that sends it to a server.
type Input = (&'static str, fn(AttackTarget) -> ResponseFuture);

/// A server under attack.
#[derive(Clone, Copy, Debug)]
struct AttackTarget {
    /// Address of the HTTPS port.
    tls: SocketAddr,
    /// Address of the port for probes and metrics.
    probes: SocketAddr,
    server: ServerKind,
}

/// The two servers of Certmint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ServerKind {
    Webhook,
    Controller,
}

impl ServerKind {
    /// Returns the path of the server's main endpoint.
    fn path(self) -> &'static str {
        match self {
            Self::Webhook => "/mutate",
            Self::Controller => "/v1/bundle",
        }
    }
}

/// Attacks servers at ports 8443 (TLS) and 9402 (probes) of their addresses.
#[derive(Debug, Parser)]
struct Args {
    /// Kind of the servers.
    #[arg(long)]
    server: ServerKind,
    /// Holds connections for this many seconds, instead of sending the inputs.
    #[arg(long)]
    siege: Option<u64>,
    /// IP addresses of the servers.
    #[arg(required = true)]
    addresses: Vec<IpAddr>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Args { server, siege, addresses } = Args::parse();
    let target = |address| AttackTarget {
        tls: SocketAddr::new(address, 8443),
        probes: SocketAddr::new(address, 9402),
        server,
    };
    let targets: Vec<AttackTarget> = addresses.into_iter().map(target).collect();
    if let Some(seconds) = siege {
        siege::besiege(&targets, Duration::from_secs(seconds)).await;
        return Ok(());
    }
    let reviews = if server == ServerKind::Webhook { reviews::INPUTS } else { &[] };
    for input in reviews.iter().chain(transport::INPUTS) {
        attack(input, &targets, is_timeout).await?;
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

/// Maximum number of times that an input is sent, if errors or timeouts occur.
const MAX_ATTEMPTS: usize = 5;

/// Sends an input to every server, and prints the response. Sends it again after an error, or when `is_retried`
/// accepts the response.
async fn attack((name, send): &Input, targets: &[AttackTarget], is_retried: fn(&str) -> bool) -> Result<()> {
    let responses = try_join_all(targets.iter().map(|target| async move {
        let mut response = send(*target).await;
        for _ in 1..MAX_ATTEMPTS {
            if response.as_ref().is_ok_and(|response| !is_retried(response)) {
                break;
            }
            response = send(*target).await;
        }
        response
    }));
    let mut responses = responses.await.map_err(|error| error.context(*name))?;
    responses.dedup();
    ensure!(responses.len() == 1, "{name}: the servers respond differently: {}", responses.join(" / "));
    println!("{name}\t{}", responses.concat());
    Ok(())
}

/// Returns whether the server timed out or ended the connection without a response. For an input that was sent without
/// delay, this means that the machine is busy.
fn is_timeout(response: &str) -> bool {
    ["408 BadRequest", "ended"].contains(&response)
}
