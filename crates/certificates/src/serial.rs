//! Serial numbers (RFC 5280 4.1.2.2).

use crate::hex::hex;
use std::fmt;

/// A serial number of exactly 20 octets: positive, with 158 of its bits as random as the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Serial([u8; 20]);

impl Serial {
    /// Makes a serial number of random octets: the sign bit is cleared and the next one set, so that it is
    /// positive and its DER never longer or shorter than 20 octets.
    pub fn from_random(mut octets: [u8; 20]) -> Self {
        let [first, ..] = &mut octets;
        *first = *first & 0x7f | 0x40;
        Self(octets)
    }

    /// The number, big endian.
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
    use super::*;
    use proptest::prelude::*;

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
