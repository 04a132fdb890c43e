//! Whose request is served next. Each costs the API server calls out of the share that the Lease and the watches live
//! on, so that there are few turns; and anybody may ask, so that they are shared fairly.

use super::claims::ClaimedPod;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// Requests served at one time; each takes milliseconds.
pub(super) const TURNS: usize = 32;
/// Of those, for addresses that have no turn yet.
const RESERVED: usize = 8;
/// Turns of one address at one time.
pub(super) const MAX_OF_ONE: usize = 8;
/// Requests of one address that wait. In all there are no more than the listener has connections.
pub(super) const MAX_WAITING_OF_ONE: usize = 16;
/// How long a request waits for its turn.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(2);
/// How long a turn that came to a rejection still counts for its address: who sends one bad token after the other is
/// slowed down, and nobody else.
const REST: Duration = Duration::from_millis(500);

/// The turns, and who waits for one.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    held: HashMap<IpAddr, usize>,
    /// Of those, by the pod that is claimed. Pods may share an address, and claims of one address count there alone.
    of_pods: HashMap<(IpAddr, ClaimedPod), usize>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    address: IpAddr,
    pod: ClaimedPod,
    wake: oneshot::Sender<Turn>,
}

/// A turn, over when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    address: IpAddr,
    pod: ClaimedPod,
    is_rejected: bool,
}

/// Too many wait already, or for too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoTurn;

impl Default for Turns {
    fn default() -> Self {
        let (held, of_pods) = (HashMap::new(), HashMap::new());
        Self(Arc::new(Mutex::new(State { free: TURNS, held, of_pods, waiting: Vec::new() })))
    }
}

impl Turns {
    /// Waits for a turn.
    pub(super) async fn wait_for_turn(&self, address: IpAddr, pod: ClaimedPod) -> Result<Turn, NoTurn> {
        let (wake, woken) = oneshot::channel();
        {
            let mut state = self.state();
            state.waiting.retain(|waiting| !waiting.wake.is_closed());
            let own = state.waiting.iter().filter(|waiting| waiting.address == address).count();
            if own >= MAX_WAITING_OF_ONE {
                return Err(NoTurn);
            }
            state.waiting.push(Waiting { address, pod, wake });
        }
        self.hand_out();
        tokio::time::timeout(MAX_WAIT, woken).await.ok().and_then(Result::ok).ok_or(NoTurn)
    }

    /// Gives turns to those that wait, for as long as there are some for them.
    fn hand_out(&self) {
        loop {
            let next = self.state().take_next();
            let Some(Waiting { address, pod, wake }) = next else { return };
            // Dropped, and with that given back, where nobody waits any more.
            drop(wake.send(Turn { turns: self.clone(), address, pod, is_rejected: false }));
        }
    }

    fn give_back_to_address(&self, address: IpAddr) {
        self.state().release(address);
        self.hand_out();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held(&self, address: IpAddr) -> usize {
        self.held.get(&address).copied().unwrap_or_default()
    }

    /// Takes a turn for whoever is next: of those that may have one, the address with the fewest, then the pod with
    /// the fewest, then who came first.
    fn take_next(&mut self) -> Option<Waiting> {
        let may = |waiting: &Waiting| match self.held(waiting.address) {
            0 => self.free > 0,
            held => self.free > RESERVED && held < MAX_OF_ONE,
        };
        let share = |waiting: &Waiting| {
            let pod = (waiting.address, waiting.pod.clone());
            (self.held(waiting.address), self.of_pods.get(&pod).copied().unwrap_or_default())
        };
        let candidates = self.waiting.iter().enumerate().filter(|(_, waiting)| may(waiting));
        let (at, _) = candidates.min_by_key(|(at, waiting)| (share(waiting), *at))?;
        let next = self.waiting.remove(at);
        self.free -= 1;
        *self.held.entry(next.address).or_default() += 1;
        *self.of_pods.entry((next.address, next.pod.clone())).or_default() += 1;
        Some(next)
    }

    fn release(&mut self, address: IpAddr) {
        one_less(&mut self.held, &address);
    }
}

fn one_less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Turn {
    /// Notes that it came to a rejection.
    pub(super) fn reject(&mut self) {
        self.is_rejected = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (turns, address) = (self.turns.clone(), self.address);
        {
            let mut state = turns.state();
            state.free += 1;
            one_less(&mut state.of_pods, &(address, self.pod.clone()));
        }
        if self.is_rejected {
            tokio::spawn(async move {
                tokio::time::sleep(REST).await;
                turns.give_back_to_address(address);
            });
            self.turns.hand_out();
        } else {
            turns.give_back_to_address(address);
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

    async fn turn(turns: &Turns, number: u8) -> Result<Turn, NoTurn> {
        turns.wait_for_turn(address(number), pod("a")).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_cannot_take_every_turn() {
        let turns = Turns::default();
        let mut held = Vec::new();
        while let Ok(turn) = turn(&turns, 1).await {
            held.push(turn);
        }
        assert_eq!(held.len(), MAX_OF_ONE);
        assert!(turn(&turns, 2).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_leave_some_to_who_has_none() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for number in 0..6 {
            for _ in 0..MAX_OF_ONE {
                held.extend(turn(&turns, number).await);
            }
        }
        let begun = tokio::time::Instant::now();
        let _turn = turn(&turns, 99).await.unwrap();
        assert!(begun.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_fewest_turns_is_next_and_not_who_came_first() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for number in 0..u8::try_from(TURNS).unwrap() {
            held.push(turn(&turns, number).await.unwrap());
        }
        let ask = |number: u8| {
            let turns = turns.clone();
            tokio::spawn(async move { turn(&turns, number).await })
        };
        let (greedy, modest) = (ask(0), ask(99));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        drop(held.pop());
        assert!(modest.await.unwrap().is_ok());
        assert!(greedy.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_share_an_address_share_its_turns() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for _ in 0..MAX_OF_ONE {
            held.push(turns.wait_for_turn(address(1), pod("greedy")).await.unwrap());
        }
        let ask = |name: &'static str| {
            let turns = turns.clone();
            tokio::spawn(async move { turns.wait_for_turn(address(1), pod(name)).await })
        };
        let (greedy, modest) = (ask("greedy"), ask("modest"));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        drop(held.pop());
        let _modest = modest.await.unwrap().unwrap();
        assert!(greedy.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn few_wait_and_not_for_long() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for _ in 0..MAX_OF_ONE {
            held.push(turn(&turns, 1).await.unwrap());
        }
        let waiting: Vec<_> = (0..MAX_WAITING_OF_ONE)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { turn(&turns, 1).await.is_ok() })
            })
            .collect();
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let begun = tokio::time::Instant::now();
        assert_eq!(turn(&turns, 1).await.unwrap_err(), NoTurn);
        assert!(begun.elapsed().is_zero());
        for waiting in waiting {
            assert!(!waiting.await.unwrap());
        }
        assert!(begun.elapsed() <= MAX_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_slows_its_address_down_and_nobody_else() {
        let turns = Turns::default();
        let begun = tokio::time::Instant::now();
        for _ in 0..4 * MAX_OF_ONE {
            turn(&turns, 1).await.unwrap().reject();
        }
        assert!(begun.elapsed() >= 3 * REST, "{:?}", begun.elapsed());
        let begun = tokio::time::Instant::now();
        for _ in 0..4 * MAX_OF_ONE {
            turn(&turns, 2).await.unwrap();
        }
        assert!(begun.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_leaves_nothing() {
        let turns = Turns::default();
        drop(turn(&turns, 1).await.unwrap());
        let state = turns.state();
        assert_eq!(state.free, TURNS);
        assert!(state.held.is_empty() && state.of_pods.is_empty() && state.waiting.is_empty());
    }

    #[test]
    fn the_page_of_limits_says_so() {
        let page = include_str!("../../../../docs/src/reference/limits.md");
        let seconds = MAX_WAIT.as_secs();
        for row in [
            format!("| tokens under review at one time | {TURNS} | the others wait; {RESERVED} are for"),
            format!("| of those, from one address | {MAX_OF_ONE} |"),
            format!("| requests of one address that wait | {MAX_WAITING_OF_ONE} |"),
            format!("| how long a request waits | {seconds} s |"),
        ] {
            assert!(page.contains(&row), "{row}");
        }
    }
}
