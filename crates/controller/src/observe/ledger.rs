//! How much memory the objects of each namespace take, so that one namespace leaves room for the others.

use certmint_contract::Namespace;
use certmint_planner::{Labels, SecretFacts, Service, Workload};
use std::{collections::HashMap, mem::size_of};

use super::tables::Known;

/// What all objects may take, where the process has no limit of its own.
const WITHOUT_LIMIT: usize = 512 * 1024 * 1024;
/// The part of the process's memory that objects may take, in eighths. The rest is for pods, requests, Events and what
/// is under way.
const EIGHTHS: usize = 4;
/// A namespace may take one part of what is free, and leaves this many.
const LEFT_FREE: usize = 3;
/// What a table needs for an entry, and an allocation beyond its bytes; both as measured, roughly.
const ENTRY: usize = 160;
const ALLOCATION: usize = 16;

/// Counts bytes. A namespace may take a part of what is free, which shrinks while others take more (the dynamic
/// threshold of shared buffers, Choudhury and Hahne 1998): so there is always something left for the next.
pub(super) struct Ledger {
    most: usize,
    taken: usize,
    of: HashMap<Namespace, usize>,
}

/// About how many bytes something takes.
pub(super) trait Bytes {
    /// With its own size, and what it points to.
    fn bytes(&self) -> usize;
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new(most_bytes())
    }
}

impl Ledger {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: 0, of: HashMap::new() }
    }

    /// Whether the namespace may take as much more.
    pub(super) fn has_room(&self, namespace: &Namespace, bytes: usize) -> bool {
        let held = self.of.get(namespace).copied().unwrap_or_default();
        held.saturating_add(bytes) <= self.most.saturating_sub(self.taken) / LEFT_FREE
    }

    pub(super) fn take(&mut self, namespace: &Namespace, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
        let held = self.of.entry(namespace.clone()).or_default();
        *held = held.saturating_add(bytes);
    }

    pub(super) fn give_back(&mut self, namespace: &Namespace, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
        if let Some(held) = self.of.get_mut(namespace) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.of.remove(namespace);
            }
        }
    }
}

/// A part of what the process's control group may take.
fn most_bytes() -> usize {
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limit.iter().find_map(|file| std::fs::read_to_string(file).ok());
    part_of(limit.as_deref())
}

fn part_of(limit: Option<&str>) -> usize {
    // `max`, or a number that no machine has, is no limit.
    let limit = limit.and_then(|limit| limit.trim().parse::<usize>().ok());
    limit.map_or(WITHOUT_LIMIT, |limit| (limit / 8 * EIGHTHS).min(WITHOUT_LIMIT))
}

fn text(text: &str) -> usize {
    text.len() + ALLOCATION
}

fn labels(labels: &Labels) -> usize {
    labels.bytes() + labels.len() * (2 * size_of::<Box<str>>() + 2 * ALLOCATION)
}

impl Bytes for Service {
    fn bytes(&self) -> usize {
        // Its name stands in the tables as well, and one label in that by which it is found.
        let found_by =
            self.selector.iter().map(|(key, value)| key.len() + value.len()).max().unwrap_or_default();
        ENTRY
            + size_of::<Self>()
            + 2 * text(&self.name)
            + text(self.namespace.as_str())
            + labels(&self.selector)
            + found_by
    }
}

impl Bytes for Workload {
    fn bytes(&self) -> usize {
        let request = match &self.request {
            Ok(certmint_contract::OptIn::No) => 0,
            Ok(certmint_contract::OptIn::Yes(request)) => {
                let names = request.dns_names.iter().map(|name| text(name.as_str()) + size_of_val(name));
                size_of_val(&**request) + names.sum::<usize>()
            }
            Err(faults) => faults.iter().map(|fault| fault.to_string().len() + size_of_val(fault)).sum(),
        };
        let texts = text(&self.uid) + text(&self.service_account) + text(&self.reference.name);
        2 * ENTRY + size_of::<Self>() + texts + labels(&self.template_labels) + request
    }
}

impl Bytes for SecretFacts {
    fn bytes(&self) -> usize {
        let owner = self.owner.as_ref().map_or(0, |owner| text(&owner.reference) + text(&owner.uid));
        let record = match &self.record {
            Ok(record) => {
                let names = record.dns_names.iter().map(|name| text(name.as_str()) + size_of_val(name));
                let texts = [&record.spiffe_id, &record.issuer, &record.root, &record.serial];
                names.sum::<usize>() + texts.into_iter().map(|part| text(part)).sum::<usize>()
            }
            Err(error) => error.to_string().len(),
        };
        let damage = self.damage.as_deref().map_or(0, text);
        size_of::<Self>() + 2 * text(self.name.as_str()) + text(&self.uid) + owner + record + damage
    }
}

impl Bytes for Known {
    fn bytes(&self) -> usize {
        2 * ENTRY + self.facts.bytes() + text(&self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn namespace(index: usize) -> Namespace {
        format!("n{index}").parse().unwrap()
    }

    #[test]
    fn one_namespace_leaves_most_to_the_others() {
        let mut ledger = Ledger::new(1_000);
        while ledger.has_room(&namespace(0), 10) {
            ledger.take(&namespace(0), 10);
        }
        assert_eq!(ledger.of[&namespace(0)], 250);
        assert!(ledger.has_room(&namespace(1), 100));
    }

    #[test]
    fn however_many_take_what_they_can_there_is_room_for_another() {
        let mut ledger = Ledger::new(1_000_000);
        for greedy in 0..20 {
            while ledger.has_room(&namespace(greedy), 100) {
                ledger.take(&namespace(greedy), 100);
            }
        }
        assert!(ledger.has_room(&namespace(99), 100) && ledger.taken < ledger.most);
    }

    #[test]
    fn the_limit_of_the_process_decides() {
        assert_eq!(part_of(Some("268435456\n")), 128 * 1024 * 1024);
        for none in [Some("max\n"), Some("9223372036854771712"), None] {
            assert_eq!(part_of(none), WITHOUT_LIMIT);
        }
    }

    proptest! {
        #[test]
        fn what_is_given_back_is_forgotten(steps in prop::collection::vec((0_usize..4, 1_usize..100), 0..50)) {
            let mut ledger = Ledger::new(10_000);
            for (index, bytes) in &steps {
                ledger.take(&namespace(*index), *bytes);
            }
            for (index, bytes) in &steps {
                ledger.give_back(&namespace(*index), *bytes);
            }
            prop_assert!(ledger.taken == 0 && ledger.of.is_empty());
        }
    }
}
