//! Random numbers for the pure crates, which take them as arguments.

use aws_lc_rs::error::Unspecified;
use certmint_certificates::Serial;

/// Error of the system's random number generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator failed; nothing is issued until it works")]
pub(crate) struct NoEntropy;

/// Returns a random serial number, with 158 random bits.
pub(crate) fn serial() -> Result<Serial, NoEntropy> {
    random().map(Serial::from_random)
}

/// Returns a random octet, by which the planner spreads the renewals of certificates over time.
pub(crate) fn jitter() -> Result<u8, NoEntropy> {
    let [octet] = random()?;
    Ok(octet)
}

fn random<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).map_err(|Unspecified| NoEntropy)?;
    Ok(octets)
}
