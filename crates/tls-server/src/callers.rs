//! Who holds how many connections and how many bytes, so that no caller shuts the others out.
//!
//! What is full is not refused to whoever comes next, because that may be the API server: the caller that holds
//! most gives way, with a connection that was never of use, or else the one that was quiet for longest.

use crate::Limits;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a connection of use has to finish what is under way, when it ends for another's sake.
const FAREWELL: Duration = Duration::from_secs(1);
/// So many connections of one address may be finishing at one time: they still hold their places, and whoever opens
/// ever more must not fill all of them with farewells.
const FAREWELLS: usize = 8;

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

#[derive(Debug)]
struct Connection {
    address: IpAddr,
    /// When it was opened, or a request on it last began or ended.
    active: Instant,
    /// Whether a request on it was answered: a flood of connections is not to end those that serve.
    used: bool,
    bytes: usize,
    end: CancellationToken,
}

/// One connection among its listener's.
#[derive(Debug)]
pub(crate) struct Place {
    callers: Callers,
    id: u64,
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
        let full =
            if open.live().filter(|connection| connection.address == address).count() >= connections_of_one {
                Some(address)
            } else if open.live().count() >= connections {
                open.first(|_| 1)
            } else {
                None
            };
        if let Some(quietest) = open.quietest(|_, connection| Some(connection.address) == full) {
            quietest.end.cancel();
        }
        let (id, end) = (open.next, CancellationToken::new());
        open.next += 1;
        let connection =
            Connection { address, active: Instant::now(), used: false, bytes: 0, end: end.clone() };
        open.connections.insert(id, connection);
        Place { callers: self.clone(), id, end }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns when the connection has to end for another's sake, with the time it has to finish what is under way.
    pub(crate) async fn ended(&self) -> Duration {
        self.end.cancelled().await;
        let open = self.callers.open();
        let Some(own) = open.connections.get(&self.id) else { return Duration::ZERO };
        let ending = open.connections.values().filter(|other| other.end.is_cancelled());
        let of_this_address = ending.filter(|ending| ending.address == own.address).count();
        if own.used && of_this_address <= FAREWELLS { FAREWELL } else { Duration::ZERO }
    }

    /// Notes that a request begins.
    pub(crate) fn begin(&self) {
        self.note(|connection| connection.active = Instant::now());
    }

    /// Notes that a request was answered.
    pub(crate) fn answered(&self) {
        self.note(|connection| (connection.active, connection.used) = (Instant::now(), true));
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
        let heaviest = open.first(|connection| connection.bytes);
        let gives = |id, connection: &Connection| {
            id != self.id && connection.bytes > 0 && Some(connection.address) == heaviest
        };
        open.quietest(gives).ok_or(Full::Own)?.end.cancel();
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

    /// The address that has most, by a measure of each connection.
    fn first(&self, measure: impl Fn(&Connection) -> usize) -> Option<IpAddr> {
        let mut sums: HashMap<IpAddr, usize> = HashMap::new();
        for connection in self.live() {
            *sums.entry(connection.address).or_default() += measure(connection);
        }
        sums.into_iter().max_by_key(|(_, sum)| *sum).map(|(address, _)| address)
    }

    /// Of those, the connection that is least worth keeping.
    fn quietest(&self, of: impl Fn(u64, &Connection) -> bool) -> Option<&Connection> {
        let live = self.connections.iter().filter(|(_, connection)| !connection.end.is_cancelled());
        let candidates = live.filter(|(id, connection)| of(**id, connection));
        candidates
            .map(|(_, connection)| connection)
            .min_by_key(|connection| (connection.used, connection.active))
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
