//! What every server shows at `/metrics`: what it is, and how long its certificate lasts.

use crate::Identity;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Registers the build and the expiry of the serving certificate.
pub fn register(registry: &mut Registry, identity: Arc<Identity>) {
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("certmint_build", "The running build", version);
    registry.register_collector(Box::new(Expiry(identity)));
}

/// When the serving certificate ends, read at each scrape; nothing while there is none.
#[derive(Debug)]
struct Expiry(Arc<Identity>);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(not_after) = self.0.not_after().and_then(|end| end.duration_since(UNIX_EPOCH).ok()) else {
            return Ok(());
        };
        let gauge = ConstGauge::new(not_after.as_secs_f64());
        let encoder = encoder.encode_descriptor(
            "certmint_serving_certificate_expiration_timestamp_seconds",
            "When the certificate that this server shows its callers ends, in seconds since 1970",
            None,
            MetricType::Gauge,
        )?;
        gauge.encode(encoder)
    }
}
