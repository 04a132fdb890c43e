//! Slots for requests that are being served.
//!
//! Each request costs calls to the API server. The Lease and the watches need the API server too, so there are few
//! slots. Any client can send requests, so addresses share the slots fairly. Within one address, the pods that the
//! tokens claim share the slots of the address fairly.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::claims::ClaimedPod;

/// Number of requests that are served at one time. Each takes milliseconds.
pub(super) const MAX_SLOTS: usize = 32;
/// Number of slots that are reserved for addresses that hold no slot.
const RESERVED_SLOTS: usize = 8;
/// Maximum number of slots of one address.
pub(super) const MAX_SLOTS_PER_ADDRESS: usize = 8;
/// Maximum number of waiting requests of one address. The listener limits the number of connections, and so the total
/// number of waiting requests.
pub(super) const MAX_WAITING_PER_ADDRESS: usize = 16;
/// Maximum time that a request waits for its slot.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(2);
/// Time for which the slot of a rejected request still counts for its address. So an address that sends many invalid
/// tokens is slowed down, and other addresses are not.
const HOLD_AFTER_REJECTION: Duration = Duration::from_millis(500);

/// Slots, and the requests that wait for one.
#[derive(Clone, Debug)]
pub(super) struct RequestSlots(Arc<Mutex<SlotState>>);

#[derive(Debug)]
struct SlotState {
    free: usize,
    held: HashMap<IpAddr, usize>,
    /// Held slots by address and claimed pod. Pods can share an address. The claim of a token is not confirmed, so it
    /// only affects requests from the same address.
    held_by_pod: HashMap<(IpAddr, ClaimedPod), usize>,
    /// Waiting requests in the order of their arrival.
    waiting: Vec<WaitingRequest>,
}

#[derive(Debug)]
struct WaitingRequest {
    address: IpAddr,
    pod: ClaimedPod,
    wake: oneshot::Sender<RequestSlot>,
}

/// Slot of a request. The slot is free again when this value is dropped.
#[derive(Debug)]
pub(super) struct RequestSlot {
    slots: RequestSlots,
    address: IpAddr,
    pod: ClaimedPod,
    is_rejected: bool,
}

/// Error: too many requests of the address wait already, or the request waited for too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoFreeSlot;

impl Default for RequestSlots {
    fn default() -> Self {
        let (held, held_by_pod) = (HashMap::new(), HashMap::new());
        let state = SlotState { free: MAX_SLOTS, held, held_by_pod, waiting: Vec::new() };
        Self(Arc::new(Mutex::new(state)))
    }
}

impl RequestSlots {
    /// Waits for a slot.
    pub(super) async fn wait_for_slot(
        &self,
        address: IpAddr,
        pod: ClaimedPod,
    ) -> Result<RequestSlot, NoFreeSlot> {
        let (wake, woken) = oneshot::channel();
        {
            let mut state = self.state();
            // Requests that gave up waiting do not count.
            state.waiting.retain(|request| !request.wake.is_closed());
            let of_address = state.waiting.iter().filter(|request| request.address == address).count();
            if of_address >= MAX_WAITING_PER_ADDRESS {
                return Err(NoFreeSlot);
            }
            state.waiting.push(WaitingRequest { address, pod, wake });
        }
        self.hand_out();
        tokio::time::timeout(MAX_WAIT, woken).await.ok().and_then(Result::ok).ok_or(NoFreeSlot)
    }

    /// Gives slots to waiting requests, until no request may have one of the free slots.
    fn hand_out(&self) {
        loop {
            let next = self.state().take_next();
            let Some(WaitingRequest { address, pod, wake }) = next else { return };
            // If the request no longer waits, `send` returns the slot, and `drop` frees it.
            drop(wake.send(RequestSlot { slots: self.clone(), address, pod, is_rejected: false }));
        }
    }

    /// Reduces the number of slots that an address holds by one, and gives slots to waiting requests.
    fn release(&self, address: IpAddr) {
        decrement(&mut self.state().held, &address);
        self.hand_out();
    }

    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotState {
    fn held_by(&self, address: IpAddr) -> usize {
        self.held.get(&address).copied().unwrap_or_default()
    }

    /// Takes a slot for the next request that may have one. Requests are ordered by the slots that their address holds,
    /// then by the slots that their pod holds, then by arrival.
    fn take_next(&mut self) -> Option<WaitingRequest> {
        let may_have_slot = |request: &WaitingRequest| match self.held_by(request.address) {
            0 => self.free > 0,
            held => self.free > RESERVED_SLOTS && held < MAX_SLOTS_PER_ADDRESS,
        };
        let held = |request: &WaitingRequest| {
            let pod = (request.address, request.pod.clone());
            (self.held_by(request.address), self.held_by_pod.get(&pod).copied().unwrap_or_default())
        };
        let candidates = self.waiting.iter().enumerate().filter(|(_, request)| may_have_slot(request));
        let (index, _) = candidates.min_by_key(|(index, request)| (held(request), *index))?;
        let next = self.waiting.remove(index);
        self.free -= 1;
        *self.held.entry(next.address).or_default() += 1;
        *self.held_by_pod.entry((next.address, next.pod.clone())).or_default() += 1;
        Some(next)
    }
}

fn decrement<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl RequestSlot {
    /// Notes that the request was rejected.
    pub(super) fn mark_rejected(&mut self) {
        self.is_rejected = true;
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        let (slots, address) = (self.slots.clone(), self.address);
        {
            let mut state = slots.state();
            state.free += 1;
            decrement(&mut state.held_by_pod, &(address, self.pod.clone()));
        }
        if self.is_rejected {
            // The slot is free for other addresses at once, and for its own address later.
            tokio::spawn(async move {
                tokio::time::sleep(HOLD_AFTER_REJECTION).await;
                slots.release(address);
            });
            self.slots.hand_out();
        } else {
            slots.release(address);
        }
    }
}

#[cfg(test)]
mod tests;
