//! Encoder of certificates and keys as PEM in the strict form of RFC 7468 section 3: lines of 64 characters, ended by
//! LF.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Length of a line in characters.
const LINE_CHARS: usize = 64;

/// Encodes DER as PEM. Wipes the intermediate base64 text, because the DER may be a private key.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // The String has its full size from the start, because a String that grows leaves copies of its content in memory.
    let mut pem = String::with_capacity(base64.len() + base64.len() / LINE_CHARS + 2 * label.len() + 40);
    pem.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at_checked(LINE_CHARS).unwrap_or((rest, ""));
        pem.extend([line, "\n"]);
        rest = tail;
    }
    pem.extend(["-----END ", label, "-----\n"]);
    pem
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls_pki_types::{CertificateDer, pem::PemObject};

    use super::encode;

    proptest! {
        #[test]
        fn decoding_returns_the_encoded_der(der: Vec<u8>) {
            let pem = encode("CERTIFICATE", &der);
            prop_assert!(pem.lines().all(|line| line.len() <= 64));
            let read = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            prop_assert_eq!(read.as_ref(), der.as_slice());
        }
    }
}
