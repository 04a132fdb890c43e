//! Limits the memory that the objects of each namespace take, so that one namespace leaves room for the others.
//!
//! The state of the cache checks the budget before it stores a Service, workload or Secret. Pods have limits of their
//! own, in `pod_index`.

use std::collections::HashMap;
use std::mem::size_of;

use certmint_contract::{Namespace, OptIn};
use certmint_planner::{Labels, SecretFacts, Service, Workload};

/// Maximum memory of all objects, in bytes. If the process has a memory limit, the maximum may be lower.
const MAX_BYTES: usize = 512 * 1024 * 1024;
/// Part of the process's memory limit that objects may take, in eighths. The rest is for pods, requests, Events and
/// temporary data.
const EIGHTHS_FOR_OBJECTS: usize = 4;
/// A namespace may take the free memory divided by this number.
const FREE_MEMORY_DIVISOR: usize = 3;
/// Memory of a table entry, and of an allocation in addition to its content, in bytes. Both are measured roughly.
pub(super) const ENTRY_BYTES: usize = 160;
const ALLOCATION_BYTES: usize = 16;

/// Counter of the memory that the objects of each namespace take.
///
/// A namespace may take a part of the free memory. That part shrinks while others take more, so there is always some
/// memory left for the next namespace (the dynamic threshold of shared buffers, Choudhury and Hahne 1998).
pub(super) struct MemoryBudget {
    max: usize,
    taken: usize,
    taken_by: HashMap<Namespace, usize>,
}

/// Estimate of the memory that a value takes.
pub(super) trait MemorySize {
    /// Returns the size of the value and of everything that it points to, in bytes.
    fn bytes(&self) -> usize;
}

impl Default for MemoryBudget {
    fn default() -> Self {
        Self::new(max_bytes())
    }
}

impl MemoryBudget {
    /// Creates a budget of `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, taken: 0, taken_by: HashMap::new() }
    }

    /// Returns whether the namespace may take that many bytes more.
    pub(super) fn has_room(&self, namespace: &Namespace, bytes: usize) -> bool {
        let held = self.taken_by.get(namespace).copied().unwrap_or_default();
        held.saturating_add(bytes) <= self.max.saturating_sub(self.taken) / FREE_MEMORY_DIVISOR
    }

    /// Counts bytes that the namespace takes.
    pub(super) fn take(&mut self, namespace: &Namespace, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
        let held = self.taken_by.entry(namespace.clone()).or_default();
        *held = held.saturating_add(bytes);
    }

    /// Counts bytes that the namespace no longer takes.
    pub(super) fn give_back(&mut self, namespace: &Namespace, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
        if let Some(held) = self.taken_by.get_mut(namespace) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.taken_by.remove(namespace);
            }
        }
    }
}

/// Returns the budget that follows from the memory limit of the process's control group.
fn max_bytes() -> usize {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    budget_of(limit.as_deref())
}

fn budget_of(limit: Option<&str>) -> usize {
    // `max` means no limit. So does the huge number that version 1 of control groups writes; it exceeds MAX_BYTES.
    let limit = limit.and_then(|limit| limit.trim().parse::<usize>().ok());
    limit.map_or(MAX_BYTES, |limit| (limit / 8 * EIGHTHS_FOR_OBJECTS).min(MAX_BYTES))
}

pub(super) fn text_bytes(text: &str) -> usize {
    text.len() + ALLOCATION_BYTES
}

fn label_bytes(labels: &Labels) -> usize {
    labels.bytes() + labels.len() * (2 * size_of::<Box<str>>() + 2 * ALLOCATION_BYTES)
}

impl MemorySize for Service {
    fn bytes(&self) -> usize {
        // `ServiceIndex` has two tables, and both contain the name. The key of the second table is one label of the
        // selector.
        let index_label =
            self.selector.iter().map(|(key, value)| key.len() + value.len()).max().unwrap_or_default();
        ENTRY_BYTES
            + size_of::<Self>()
            + 2 * text_bytes(&self.name)
            + text_bytes(self.namespace.as_str())
            + label_bytes(&self.selector)
            + index_label
    }
}

impl MemorySize for Workload {
    fn bytes(&self) -> usize {
        let request = match &self.opt_in {
            Ok(OptIn::No) => 0,
            Ok(OptIn::Yes(request)) => {
                let names =
                    request.dns_names.iter().map(|name| text_bytes(name.as_str()) + size_of_val(name));
                size_of_val(&**request) + names.sum::<usize>()
            }
            Err(faults) => faults.iter().map(|fault| fault.to_string().len() + size_of_val(fault)).sum(),
        };
        let texts =
            text_bytes(&self.uid) + text_bytes(&self.service_account) + text_bytes(&self.reference.name);
        2 * ENTRY_BYTES + size_of::<Self>() + texts + label_bytes(&self.template_labels) + request
    }
}

impl MemorySize for SecretFacts {
    fn bytes(&self) -> usize {
        let owner =
            self.owner.as_ref().map_or(0, |owner| text_bytes(&owner.reference) + text_bytes(&owner.uid));
        let record = match &self.record {
            Ok(record) => {
                let names = record.dns_names.iter().map(|name| text_bytes(name.as_str()) + size_of_val(name));
                let texts = [&record.spiffe_id, &record.issuer, &record.root, &record.serial];
                names.sum::<usize>() + texts.into_iter().map(|part| text_bytes(part)).sum::<usize>()
            }
            Err(error) => error.to_string().len(),
        };
        let damage = self.damage.as_deref().map_or(0, text_bytes);
        size_of::<Self>()
            + 2 * text_bytes(self.name.as_str())
            + text_bytes(&self.uid)
            + owner
            + record
            + damage
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn namespace(index: usize) -> Namespace {
        format!("n{index}").parse().unwrap()
    }

    #[test]
    fn one_namespace_leaves_room_for_others() {
        let mut budget = MemoryBudget::new(1_000);
        while budget.has_room(&namespace(0), 10) {
            budget.take(&namespace(0), 10);
        }
        assert_eq!(budget.taken_by[&namespace(0)], 250);
        assert!(budget.has_room(&namespace(1), 100));
    }

    #[test]
    fn many_greedy_namespaces_leave_room_for_another() {
        let mut budget = MemoryBudget::new(1_000_000);
        for greedy in 0..20 {
            while budget.has_room(&namespace(greedy), 100) {
                budget.take(&namespace(greedy), 100);
            }
        }
        assert!(budget.has_room(&namespace(99), 100) && budget.taken < budget.max);
    }

    #[test]
    fn follows_the_memory_limit_of_the_process() {
        assert_eq!(budget_of(Some("268435456\n")), 128 * 1024 * 1024);
        for unlimited in [Some("max\n"), Some("9223372036854771712"), None] {
            assert_eq!(budget_of(unlimited), MAX_BYTES);
        }
    }

    proptest! {
        #[test]
        fn counts_nothing_after_all_is_given_back(steps in prop::collection::vec((0_usize..4, 1_usize..100), 0..50)) {
            let mut budget = MemoryBudget::new(10_000);
            for (index, bytes) in &steps {
                budget.take(&namespace(*index), *bytes);
            }
            for (index, bytes) in &steps {
                budget.give_back(&namespace(*index), *bytes);
            }
            prop_assert!(budget.taken == 0 && budget.taken_by.is_empty());
        }
    }
}
