//! Slots for requests that are being served.
//!
//! Each request costs calls to the API server, which the Lease and the watches need too, so there are few slots. Any
//! client can send requests, so addresses share the slots fairly, and so do the claimed pods of one address.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::claims::ClaimedPod;

/// Number of requests that are served at one time. Each takes milliseconds.
pub(super) const MAX_SLOTS: usize = 32;
/// Slots that only addresses without a slot get.
const RESERVED_SLOTS: usize = 8;
/// Maximum number of slots of one address.
pub(super) const MAX_SLOTS_PER_ADDRESS: usize = 8;
/// Maximum number of waiting requests of one address. The listener's connections limit the total number.
pub(super) const MAX_WAITING_PER_ADDRESS: usize = 16;
/// Maximum time that a request waits for its slot.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(2);
/// Time for which a slot counts for its address after a rejection. It slows down an address that sends one invalid token
/// after the other, and no other address.
const HOLD_AFTER_REJECTION: Duration = Duration::from_millis(500);

/// Slots, and the requests that wait for one.
#[derive(Clone, Debug)]
pub(super) struct RequestSlots(Arc<Mutex<SlotState>>);

#[derive(Debug)]
struct SlotState {
    free: usize,
    held: HashMap<IpAddr, usize>,
    /// Held slots by address and claimed pod. Pods can share an address. A claim is not proved, so it counts within its
    /// address only.
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

/// Slot of a request. Dropping it frees it.
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

    /// Gives slots to waiting requests, as long as there are some for them.
    fn hand_out(&self) {
        loop {
            let next = self.state().take_next();
            let Some(WaitingRequest { address, pod, wake }) = next else { return };
            // If the request does not wait any more, the slot comes back and is dropped, which frees it.
            drop(wake.send(RequestSlot { slots: self.clone(), address, pod, is_rejected: false }));
        }
    }

    /// Ends the counting of a slot for its address.
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
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    fn pod(name: &str) -> ClaimedPod {
        ClaimedPod { namespace: "shop".into(), name: name.into() }
    }

    async fn take_slot(slots: &RequestSlots, number: u8) -> Result<RequestSlot, NoFreeSlot> {
        slots.wait_for_slot(address(number), pod("a")).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_cannot_take_every_slot() {
        let slots = RequestSlots::default();
        let mut held = Vec::new();
        while let Ok(slot) = take_slot(&slots, 1).await {
            held.push(slot);
        }
        assert_eq!(held.len(), MAX_SLOTS_PER_ADDRESS);
        assert!(take_slot(&slots, 2).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_without_a_slot_get_a_reserved_one() {
        let slots = RequestSlots::default();
        let mut held = Vec::new();
        for number in 0..6 {
            for _ in 0..MAX_SLOTS_PER_ADDRESS {
                held.extend(take_slot(&slots, number).await);
            }
        }
        let begun = tokio::time::Instant::now();
        let _slot = take_slot(&slots, 99).await.unwrap();
        assert!(begun.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_the_fewest_slots_is_next() {
        let slots = RequestSlots::default();
        let mut held = Vec::new();
        for number in 0..u8::try_from(MAX_SLOTS).unwrap() {
            held.push(take_slot(&slots, number).await.unwrap());
        }
        let ask = |number: u8| {
            let slots = slots.clone();
            tokio::spawn(async move { take_slot(&slots, number).await })
        };
        let (greedy, modest) = (ask(0), ask(99));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        drop(held.pop());
        assert!(modest.await.unwrap().is_ok());
        assert!(greedy.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_share_an_address_share_its_slots() {
        let slots = RequestSlots::default();
        let mut held = Vec::new();
        for _ in 0..MAX_SLOTS_PER_ADDRESS {
            held.push(slots.wait_for_slot(address(1), pod("greedy")).await.unwrap());
        }
        let ask = |name: &'static str| {
            let slots = slots.clone();
            tokio::spawn(async move { slots.wait_for_slot(address(1), pod(name)).await })
        };
        let (greedy, modest) = (ask("greedy"), ask("modest"));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        drop(held.pop());
        let _modest = modest.await.unwrap().unwrap();
        assert!(greedy.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn few_requests_wait_and_for_a_limited_time() {
        let slots = RequestSlots::default();
        let mut held = Vec::new();
        for _ in 0..MAX_SLOTS_PER_ADDRESS {
            held.push(take_slot(&slots, 1).await.unwrap());
        }
        let waiting: Vec<_> = (0..MAX_WAITING_PER_ADDRESS)
            .map(|_| {
                let slots = slots.clone();
                tokio::spawn(async move { take_slot(&slots, 1).await.is_ok() })
            })
            .collect();
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let begun = tokio::time::Instant::now();
        assert_eq!(take_slot(&slots, 1).await.unwrap_err(), NoFreeSlot);
        assert!(begun.elapsed().is_zero());
        for waiting in waiting {
            assert!(!waiting.await.unwrap());
        }
        assert!(begun.elapsed() <= MAX_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_slows_down_its_address_only() {
        let slots = RequestSlots::default();
        let begun = tokio::time::Instant::now();
        for _ in 0..4 * MAX_SLOTS_PER_ADDRESS {
            take_slot(&slots, 1).await.unwrap().mark_rejected();
        }
        assert!(begun.elapsed() >= 3 * HOLD_AFTER_REJECTION, "{:?}", begun.elapsed());
        let begun = tokio::time::Instant::now();
        for _ in 0..4 * MAX_SLOTS_PER_ADDRESS {
            take_slot(&slots, 2).await.unwrap();
        }
        assert!(begun.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn a_freed_slot_leaves_no_entries() {
        let slots = RequestSlots::default();
        drop(take_slot(&slots, 1).await.unwrap());
        let state = slots.state();
        assert_eq!(state.free, MAX_SLOTS);
        assert!(state.held.is_empty() && state.held_by_pod.is_empty() && state.waiting.is_empty());
    }

    #[test]
    fn limits_page_has_the_slots() {
        let page = include_str!("../../../../docs/src/reference/limits.md");
        let seconds = MAX_WAIT.as_secs();
        for row in [
            format!(
                "| tokens under review at one time | {MAX_SLOTS} | the others wait; {RESERVED_SLOTS} are for"
            ),
            format!("| of those, from one address | {MAX_SLOTS_PER_ADDRESS} |"),
            format!("| requests of one address that wait | {MAX_WAITING_PER_ADDRESS} |"),
            format!("| how long a request waits | {seconds} s |"),
        ] {
            assert!(page.contains(&row), "{row}");
        }
    }
}
