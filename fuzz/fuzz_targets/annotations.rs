//! Fuzz target for the annotations of a user. The input has one `key=value` on each line.
//!
//! Checks that the message of every error has a limited length, and that every parsed value prints and parses to the
//! same value.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use certmint_contract::annotations::{self, OptIn};
use certmint_contract::{KeyAlgorithm, Lifetime, Reload};
use libfuzzer_sys::fuzz_target;

/// Maximum bytes of all messages for one object.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

fuzz_target!(|text: &str| {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    match annotations::parse(pairs) {
        Ok(OptIn::No) => {}
        Ok(OptIn::Yes(options)) => {
            options.key_algorithm.as_ref().map(assert_reads_back::<KeyAlgorithm>);
            assert_reads_back::<annotations::MountPath>(&options.mount_path);
            options.duration.as_ref().map(assert_reads_back::<Lifetime>);
            options.reload.as_ref().map(assert_reads_back::<Reload>);
            options.secret_name.as_ref().map(assert_reads_back);
            options.dns_names.iter().for_each(assert_reads_back);
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "rejected without an error");
            let length: usize = errors.iter().map(|error| error.to_string().len()).sum();
            assert!(length <= MAX_MESSAGE_BYTES, "{length} bytes of messages");
        }
    }
});

fn assert_reads_back<T: FromStr + Display + PartialEq + Debug>(value: &T)
where
    T::Err: Debug,
{
    assert_eq!(&value.to_string().parse::<T>().expect("a printed value parses"), value);
}
