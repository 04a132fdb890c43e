//! Rejected requests in the log: the first of an address and a code at once, then one line with their number.

use crate::Repeats;
use crate::handler::Rejected;
use certmint_contract::ErrorCode;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often is told what repeated.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// The rejected requests of a listener.
#[derive(Debug, Default)]
pub(crate) struct Rejections(Repeats<(IpAddr, ErrorCode)>);

impl Rejections {
    pub(crate) fn note(&self, address: IpAddr, Rejected { code, why }: &Rejected) {
        if self.0.is_first(&(address, *code)) {
            tracing::info!(%address, %code, why, "request rejected");
        }
    }

    /// Tells what repeated, for as long as it is polled.
    pub(crate) async fn tell(&self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (rejected, count) in self.0.take() {
                match rejected {
                    Some((address, code)) => {
                        tracing::info!(%address, %code, count, "further requests rejected");
                    }
                    None => tracing::info!(count, "further requests rejected, of other addresses or codes"),
                }
            }
        }
    }
}
