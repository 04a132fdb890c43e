//! Serial numbers of certificates (RFC 5280 4.1.2.2).

use std::fmt;

use crate::hex::hex;

/// Positive serial number of exactly 20 octets, with 158 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Serial([u8; 20]);

impl Serial {
    /// Creates a serial number from random octets.
    ///
    /// The sign bit is cleared and the next bit is set. So the number is positive, and its DER always has 20 octets.
    #[must_use]
    pub fn from_random(mut octets: [u8; 20]) -> Self {
        let [first, ..] = &mut octets;
        *first = *first & 0x7f | 0x40;
        Self(octets)
    }

    /// Returns the number, big endian.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_serial_is_positive_and_keeps_158_random_bits(octets: [u8; 20]) {
            let serial = Serial::from_random(octets);
            prop_assert_eq!(serial.0[0] & 0xc0, 0x40);
            prop_assert_eq!(serial.0[0] & 0x3f, octets[0] & 0x3f);
            prop_assert_eq!(&serial.0[1..], &octets[1..]);
            prop_assert_eq!(serial.to_string().len(), 40);
        }
    }
}
