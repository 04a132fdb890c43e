//! Metrics of every server: its version, and the expiry of its certificate.

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::ServingKeyPair;

/// Registers the metrics of the build and of the serving certificate.
pub fn register(registry: &mut Registry, key_pair: Arc<ServingKeyPair>) {
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("certmint_build", "The running build", version);
    registry.register_collector(Box::new(Expiry(key_pair)));
}

/// Metric of the time at which the serving certificate expires, read at each scrape. The metric is missing while the
/// server has no certificate.
#[derive(Debug)]
struct Expiry(Arc<ServingKeyPair>);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(not_after) = self.0.not_after().and_then(|expiry| expiry.duration_since(UNIX_EPOCH).ok())
        else {
            return Ok(());
        };
        let gauge = ConstGauge::new(not_after.as_secs_f64());
        let encoder = encoder.encode_descriptor(
            "certmint_serving_certificate_expiration_timestamp_seconds",
            "Expiry of the certificate that this server shows to its callers, in seconds since 1970",
            None,
            MetricType::Gauge,
        )?;
        gauge.encode(encoder)
    }
}
