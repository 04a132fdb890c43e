//! Tests of the slots for requests, without an API server.

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
    let page = include_str!("../../../../../docs/src/reference/limits.md");
    let seconds = MAX_WAIT.as_secs();
    for row in [
        format!(
            "at the same time | {MAX_SLOTS} | further requests wait. The last {RESERVED_SLOTS} of the {MAX_SLOTS} are"
        ),
        format!("| number of these requests from one address | {MAX_SLOTS_PER_ADDRESS} |"),
        format!("| number of waiting requests of one address | {MAX_WAITING_PER_ADDRESS} |"),
        format!("| time that a request waits | {seconds} s |"),
    ] {
        assert!(page.contains(&row), "{row}");
    }
}
