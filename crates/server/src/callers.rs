//! Who holds how many connections and how many bytes, so that no caller shuts the others out.
//!
//! A full server does not refuse whoever comes next, because that may be the API server. It ends the connection that is
//! least useful: see [`Open::least_useful`].

use crate::Limits;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The time in which a connection of use may finish what is under way, when it ends for another's sake.
const FAREWELL: Duration = Duration::from_secs(1);
/// So many connections may be finishing at one time: they still hold their memory.
pub(crate) const MAX_FAREWELLS: usize = 8;
/// One address of so many may have its share of the seats before it loses first.
const FEW: usize = 32;
/// What a request weighs at the very beginning, as if it had been held for so long.
const MIN_WEIGHT: Duration = Duration::from_millis(10);
/// All connections of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Callers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    open: Mutex<Open>,
    /// Woken whenever bytes were given back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Connection>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Nothing was received.
    Silent,
    /// Something was received.
    Begun,
    /// A request was answered with success.
    Useful,
}

#[derive(Debug)]
struct Connection {
    address: IpAddr,
    stage: Stage,
    /// When it was opened, or a request on it last began or ended.
    active: Instant,
    bytes: usize,
    end: CancellationToken,
}

/// One connection among its listener's.
#[derive(Debug)]
pub(crate) struct Place {
    callers: Callers,
    id: u64,
    address: IpAddr,
    end: CancellationToken,
}

/// Bytes that a connection holds, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    place: Arc<Place>,
    bytes: usize,
}

impl Callers {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared { limits, open: Mutex::default(), freed: Notify::new() }))
    }

    /// A place for one more connection of `address`. Where there are as many as may be, another one ends for it.
    pub(crate) fn place(&self, address: IpAddr) -> Place {
        // A listener on IPv6 sees IPv4 callers in a form of its own.
        let address = address.to_canonical();
        let Limits { connections_of_one, connections, .. } = self.0.limits;
        let mut open = self.open();
        let own = |connection: &Connection| connection.address == address;
        let victim = if open.live().filter(|connection| own(connection)).count() >= connections_of_one {
            open.least_useful(own, connections_of_one)
        } else if open.live().count() >= connections {
            open.least_useful(|_| true, connections)
        } else {
            None
        };
        if let Some(victim) = victim {
            victim.end.cancel();
        }
        let (id, end) = (open.next, CancellationToken::new());
        open.next += 1;
        let (stage, active, bytes) = (Stage::Silent, Instant::now(), 0);
        open.connections.insert(id, Connection { address, stage, active, bytes, end: end.clone() });
        Place { callers: self.clone(), id, address, end }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whose connection it is.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns when the connection has to end for another's sake, with the time it has to finish what is under way.
    pub(crate) async fn ended(&self) -> Duration {
        self.end.cancelled().await;
        let open = self.callers.open();
        let useful = |connection: &Connection| connection.stage == Stage::Useful;
        let own = open.connections.get(&self.id).is_some_and(useful);
        let ending = open.connections.values().filter(|other| other.end.is_cancelled() && useful(other));
        if own && ending.count() <= MAX_FAREWELLS { FAREWELL } else { Duration::ZERO }
    }

    /// Notes how far the connection has come.
    pub(crate) fn reached(&self, stage: Stage) {
        self.note(|connection| connection.stage = connection.stage.max(stage));
    }

    /// Notes that a request begins.
    pub(crate) fn begin(&self) {
        self.note(|connection| connection.active = Instant::now());
    }

    /// Notes that a request was answered, and whether with success: whoever only collects refusals is of no use.
    pub(crate) fn answered(&self, with_success: bool) {
        self.note(|connection| connection.active = Instant::now());
        if with_success {
            self.reached(Stage::Useful);
        }
    }

    fn note(&self, change: impl FnOnce(&mut Connection)) {
        self.callers.open().connections.get_mut(&self.id).map(change);
    }

    /// Room for so many bytes, for which another connection may have to end. `None` when the caller itself holds
    /// most of what there is, and has no other connection to give.
    pub(crate) async fn room(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        loop {
            let freed = self.callers.0.freed.notified();
            match self.try_room(bytes) {
                Ok(room) => return Some(room),
                Err(Full::Soon) => freed.await,
                Err(Full::Own) => return None,
            }
        }
    }

    fn try_room(self: &Arc<Self>, bytes: usize) -> Result<Room, Full> {
        let most = self.callers.0.limits.bodies_bytes;
        let mut open = self.callers.open();
        let held: usize = open.connections.values().map(|connection| connection.bytes).sum();
        if held + bytes <= most {
            let own = open.connections.get_mut(&self.id).ok_or(Full::Own)?;
            own.bytes += bytes;
            return Ok(Room { place: Arc::clone(self), bytes });
        }
        if open.connections.values().any(|connection| connection.bytes > 0 && connection.end.is_cancelled()) {
            return Err(Full::Soon);
        }
        let heaviest = open.heaviest();
        let gives = |(id, connection): &(&u64, &Connection)| {
            **id != self.id && connection.bytes > 0 && Some(connection.address) == heaviest
        };
        let candidates = open.connections.iter().filter(gives).map(|(_, connection)| connection);
        let victim = candidates.min_by_key(|connection| (connection.stage, connection.active));
        victim.ok_or(Full::Own)?.end.cancel();
        Err(Full::Soon)
    }
}

/// Why there is no room now.
enum Full {
    /// Another connection is about to give its own back.
    Soon,
    /// There is none that could.
    Own,
}

impl Open {
    fn live(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values().filter(|connection| !connection.end.is_cancelled())
    }

    /// The address that holds most, by bytes and the time for which it has held them: an API server that sends much
    /// and is done at once is not to give way to many who withhold a little each.
    fn heaviest(&self) -> Option<IpAddr> {
        let mut sums: HashMap<IpAddr, u128> = HashMap::new();
        for connection in self.live() {
            let weight = connection.active.elapsed().as_millis() + MIN_WEIGHT.as_millis();
            let bytes = u128::try_from(connection.bytes).unwrap_or(u128::MAX);
            *sums.entry(connection.address).or_default() += bytes.saturating_mul(weight);
        }
        sums.into_iter().max_by_key(|(_, sum)| *sum).map(|(address, _)| address)
    }

    /// Of those connections, which have so many seats, the one that is least worth keeping.
    ///
    /// Each stage has its seats, so that none can be crowded out by another: see [`Open::giving_stage`]. Among
    /// equals an address with many connections loses first, then the connection on which nothing has happened for
    /// longest.
    fn least_useful(&self, of: impl Fn(&Connection) -> bool, seats: usize) -> Option<&Connection> {
        let candidates: Vec<&Connection> = self.live().filter(|connection| of(connection)).collect();
        let stage = Self::giving_stage(&candidates, seats);
        let losers: Vec<&Connection> = candidates.into_iter().filter(|one| one.stage == stage).collect();
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        for loser in &losers {
            *of_address.entry(loser.address).or_default() += 1;
        }
        losers.into_iter().min_by_key(|one| {
            let of_address = of_address.get(&one.address).copied().unwrap_or_default();
            (Reverse(of_address.saturating_sub(seats / FEW)), one.active)
        })
    }

    /// The stage that loses a connection. Useful ones have three quarters of the seats, so that no flood ends those
    /// that serve, and no more, so that they do not keep out whoever comes. Silent ones have a quarter: whoever comes
    /// is silent for a moment, and an attacker may be for long.
    fn giving_stage(candidates: &[&Connection], seats: usize) -> Stage {
        let count = |stage| candidates.iter().filter(|connection| connection.stage == stage).count();
        let [silent, begun, useful] = [Stage::Silent, Stage::Begun, Stage::Useful].map(count);
        if useful > seats * 3 / 4 {
            Stage::Useful
        } else if silent > seats / 4 || (begun == 0 && silent > 0) {
            Stage::Silent
        } else if begun > 0 {
            Stage::Begun
        } else {
            Stage::Useful
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.callers.open().connections.remove(&self.id);
        self.callers.0.freed.notify_waiters();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(connection) = self.place.callers.open().connections.get_mut(&self.place.id) {
            connection.bytes -= self.bytes;
        }
        self.place.callers.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
