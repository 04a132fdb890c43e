//! PEM as RFC 7468 section 3 wants it written: 64 characters a line, LF.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// The characters of one line.
const LINE: usize = 64;

/// Wraps DER in PEM. The base64 in between is wiped, because the DER may be a private key.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // Room for everything from the start: a String that grows leaves copies of its content behind.
    let mut pem = String::with_capacity(base64.len() + base64.len() / LINE + 2 * label.len() + 40);
    pem.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        pem.extend([line, "\n"]);
        rest = tail;
    }
    pem.extend(["-----END ", label, "-----\n"]);
    pem
}

#[cfg(test)]
mod tests {
    use super::encode;
    use proptest::prelude::*;
    use rustls_pki_types::{CertificateDer, pem::PemObject};

    proptest! {
        #[test]
        fn what_is_written_reads_back(der: Vec<u8>) {
            let pem = encode("CERTIFICATE", &der);
            prop_assert!(pem.lines().all(|line| line.len() <= 64));
            let read = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            prop_assert_eq!(read.as_ref(), der.as_slice());
        }
    }
}
