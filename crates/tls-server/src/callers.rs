//! Who holds how many connections, so that no one caller takes every seat from the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The addresses that have connections now, and how many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of an address, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    callers: Callers,
    address: IpAddr,
}

impl Callers {
    /// A place for one more connection of `address`, unless it has `most` already.
    pub(crate) fn place(&self, address: IpAddr, most: usize) -> Option<Place> {
        // A listener on IPv6 sees IPv4 callers in a form of its own.
        let address = address.to_canonical();
        let mut counts = self.counts();
        let count = counts.get(&address).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        counts.insert(address, count + 1);
        Some(Place { callers: self.clone(), address })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.callers.counts();
        match counts.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_share_and_gives_it_back() {
        let callers = Callers::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let held = [callers.place(one, 2).unwrap(), callers.place(one, 2).unwrap()];
        assert!(callers.place(one, 2).is_none());
        assert!(callers.place(other, 2).is_some());
        drop(held);
        assert!(callers.counts().is_empty());
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_is_the_same_caller() {
        let callers = Callers::default();
        let _held = callers.place("::ffff:10.0.0.1".parse().unwrap(), 1).unwrap();
        assert!(callers.place(IpAddr::from([10, 0, 0, 1]), 1).is_none());
    }
}
