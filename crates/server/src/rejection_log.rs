//! Log of rejected requests: one line at once for the first rejection of an address and code, and later one line with
//! the number of repeats.

use std::net::IpAddr;
use std::time::Duration;

use certmint_contract::ErrorCode;
use certmint_contract::issuance::Failure;
use tokio::time::{MissedTickBehavior, interval};

use crate::repeat_counter::{Occurrence, RepeatCounter, Repeats};

/// Time between two lines with the number of repeats.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Rejection in the extensions of a response, for the log of the server. The server counts repeated rejections and logs
/// their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRejection {
    /// The code under which rejections are counted.
    pub code: ErrorCode,
    /// The text of the log line. Later rejections of the same address and code are counted without their texts.
    pub why: String,
}

impl From<Failure> for LoggedRejection {
    fn from(Failure { code, message }: Failure) -> Self {
        Self { code, why: message }
    }
}

/// Log of the rejected requests of one listener.
#[derive(Debug, Default)]
pub(crate) struct RejectionLog(RepeatCounter<(IpAddr, ErrorCode)>);

impl RejectionLog {
    /// Counts a rejection, and logs it if it is the first of its address and code.
    pub(crate) fn record(&self, address: IpAddr, LoggedRejection { code, why }: &LoggedRejection) {
        if self.0.count(&(address, *code)) == Occurrence::First {
            tracing::info!(%address, %code, why, "request rejected");
        }
    }

    /// Logs the number of repeats once per [`INTERVAL`], for as long as it is polled.
    pub(crate) async fn log_repeats(&self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Repeats { by_key, others } = self.0.take_repeats();
            for ((address, code), count) in by_key {
                tracing::info!(%address, %code, count, "further requests rejected");
            }
            if others > 0 {
                tracing::info!(count = others, "further requests rejected, of other addresses or codes");
            }
        }
    }
}
