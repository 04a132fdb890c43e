//! Fuzz target for the policy file, which a platform engineer edits, and which webhook and controller read while they
//! run.
//!
//! Checks that a valid policy does not contradict itself, and that the message of every error has a limited length.

#![no_main]

use certmint_contract::Policy;
use certmint_contract::policy::MAX_NAME_CONSTRAINT_BYTES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| match Policy::from_json(json) {
    Ok(policy) => {
        assert!(policy.shortest_duration <= policy.default_duration);
        assert!(policy.default_duration <= policy.longest_duration);
        assert!(policy.min_issuing_lifetime() <= policy.ca.issuing_lifetime.duration());
        assert!(policy.ca.issuing_lifetime <= policy.ca.root_lifetime);
        assert!(!policy.key_algorithms.is_empty());
        let bytes: usize = policy.permitted_dns().iter().map(|name| name.as_str().len()).sum();
        assert!(bytes <= MAX_NAME_CONSTRAINT_BYTES);
        for (namespace, names) in &policy.extra_dns_names {
            assert!(names.iter().all(|name| policy.allows_extra_name(namespace, name)));
        }
    }
    Err(error) => {
        // The errors of serde quote a word of the input.
        let length = error.to_string().len();
        assert!(length <= json.len() * 4 + 1024, "{length} bytes of error");
    }
});
