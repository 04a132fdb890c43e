//! The policy file, which a platform team edits by hand and which is read again under a running process.
//!
//! What is taken holds together; what is not is refused in a bounded sentence.

#![no_main]

use certmint_contract::{Policy, policy::MAX_CONSTRAINTS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| match Policy::from_json(json) {
    Ok(policy) => {
        assert!(policy.shortest_duration <= policy.default_duration);
        assert!(policy.default_duration <= policy.longest_duration);
        assert!(!policy.key_algorithms.is_empty());
        let bytes: usize = policy.permitted_dns().iter().map(|name| name.as_str().len()).sum();
        assert!(bytes <= MAX_CONSTRAINTS);
        for (namespace, names) in &policy.extra_dns_names {
            assert!(names.iter().all(|name| policy.allows_extra_name(namespace, name)));
        }
    }
    Err(error) => {
        // serde's errors repeat a word of the input.
        let length = error.to_string().len();
        assert!(length <= json.len() * 4 + 1024, "{length} bytes of error");
    }
});
