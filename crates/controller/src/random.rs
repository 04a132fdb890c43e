//! Random numbers, which the pure crates take as arguments.

use aws_lc_rs::error::Unspecified;
use certmint_certificates::Serial;

/// The system has no random numbers to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed; nothing is issued until it works")]
pub(crate) struct NoEntropy;

/// A serial number of 158 random bits.
pub(crate) fn serial() -> Result<Serial, NoEntropy> {
    random().map(Serial::from_random)
}

/// A random octet.
pub(crate) fn jitter() -> Result<u8, NoEntropy> {
    let [octet] = random()?;
    Ok(octet)
}

fn random<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).map_err(|Unspecified| NoEntropy)?;
    Ok(octets)
}
