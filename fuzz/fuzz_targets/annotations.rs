//! Annotations as a user may write them: `key=value`, one a line.
//!
//! Every fault is said in a bounded sentence, and what was understood means the same when it is written again.

#![no_main]

use certmint_contract::annotations::{self, OptIn};
use certmint_contract::{KeyAlgorithm, Lifetime, Reload};
use libfuzzer_sys::fuzz_target;
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// All faults of one object together.
const LONGEST_MESSAGE: usize = 16 * 1024;

fuzz_target!(|text: &str| {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    match annotations::parse(pairs) {
        Ok(OptIn::No) => {}
        Ok(OptIn::Yes(request)) => {
            request.key_algorithm.as_ref().map(reads_back::<KeyAlgorithm>);
            reads_back::<annotations::MountPath>(&request.mount_path);
            request.duration.as_ref().map(reads_back::<Lifetime>);
            request.reload.as_ref().map(reads_back::<Reload>);
            request.secret_name.as_ref().map(reads_back);
            request.dns_names.iter().for_each(reads_back);
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            let length: usize = faults.iter().map(|fault| fault.to_string().len()).sum();
            assert!(length <= LONGEST_MESSAGE, "{length} bytes of faults");
        }
    }
});

fn reads_back<T: FromStr + Display + PartialEq + Debug>(value: &T)
where
    T::Err: Debug,
{
    assert_eq!(&value.to_string().parse::<T>().expect("what was printed is read"), value);
}
