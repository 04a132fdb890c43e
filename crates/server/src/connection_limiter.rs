//! Limits of connections and bytes, which all callers of a listener share. No caller can prevent the server from
//! serving the others.
//!
//! A full server does not reject the newest connection, because that may be the API server's. It evicts the connection
//! that is least useful: see [`OpenConnections::least_useful`].

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Limits;

/// Time that an evicted useful connection has to finish its request.
const DRAIN_AFTER_EVICTION: Duration = Duration::from_secs(1);
/// Maximum number of evicted connections that drain at the same time. Draining connections still hold their memory.
pub(crate) const MAX_DRAINING: usize = 8;
/// If an address has more than `1 / FAIR_SHARE_DIVISOR` of the permits, its connections are evicted first.
const FAIR_SHARE_DIVISOR: usize = 32;
/// Time that is added to the time since a connection was last active. Without it, new bytes would have no weight.
const MIN_HOLDING_TIME: Duration = Duration::from_millis(10);

/// Limiter for all connections of one listener.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    open: Mutex<OpenConnections>,
    /// Notified whenever bytes are given back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next_id: u64,
    by_id: HashMap<u64, OpenConnection>,
}

/// Progress of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The server has received nothing.
    Silent,
    /// The server has received something.
    Begun,
    /// The server has answered a request with success.
    Useful,
}

#[derive(Debug)]
struct OpenConnection {
    address: IpAddr,
    stage: Stage,
    /// Time at which the connection was opened, or at which a request last began or ended.
    last_active: Instant,
    /// Number of bytes of bodies that the connection holds.
    bytes: usize,
    evicted: CancellationToken,
}

/// Permit of one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limiter: ConnectionLimiter,
    id: u64,
    address: IpAddr,
    evicted: CancellationToken,
}

/// Permit for bytes that a connection holds, given back when dropped.
#[derive(Debug)]
pub(crate) struct BytePermit {
    connection: Arc<ConnectionPermit>,
    bytes: usize,
}

/// Result of one attempt to get a [`BytePermit`].
enum ByteGrant {
    Granted(BytePermit),
    /// Another connection was evicted and gives its bytes back soon.
    WaitForEviction,
    /// The limiter has no other connection to evict.
    Unavailable,
}

impl ConnectionLimiter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, open: Mutex::default(), freed: Notify::new() }))
    }

    /// Returns a permit for one more connection of `address`. At a limit, evicts another connection.
    pub(crate) fn permit(&self, address: IpAddr) -> ConnectionPermit {
        // A listener on IPv6 sees the address of an IPv4 caller in IPv6 form.
        let address = address.to_canonical();
        let Limits { max_connections_per_address, max_connections, .. } = self.0.limits;
        let mut open = self.open();
        let same_address = |connection: &OpenConnection| connection.address == address;
        // An address at its limit loses one of its own connections. Below that limit, the limiter evicts a connection
        // of any address, but only when all permits are in use.
        let victim = if open.live().filter(|connection| same_address(connection)).count()
            >= max_connections_per_address
        {
            open.least_useful(same_address, max_connections_per_address)
        } else if open.live().count() >= max_connections {
            open.least_useful(|_| true, max_connections)
        } else {
            None
        };
        if let Some(victim) = victim {
            victim.evicted.cancel();
        }
        let (id, evicted) = (open.next_id, CancellationToken::new());
        open.next_id += 1;
        let connection = OpenConnection {
            address,
            stage: Stage::Silent,
            last_active: Instant::now(),
            bytes: 0,
            evicted: evicted.clone(),
        };
        open.by_id.insert(id, connection);
        ConnectionPermit { limiter: self.clone(), id, address, evicted }
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPermit {
    /// Returns the address of the caller.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Waits until the connection is evicted, and returns the time that it has to finish its request.
    pub(crate) async fn wait_for_eviction(&self) -> Duration {
        self.evicted.cancelled().await;
        let open = self.limiter.open();
        let is_useful = |connection: &OpenConnection| connection.stage == Stage::Useful;
        let is_this_useful = open.by_id.get(&self.id).is_some_and(is_useful);
        let draining =
            open.by_id.values().filter(|other| other.evicted.is_cancelled() && is_useful(other)).count();
        if is_this_useful && draining <= MAX_DRAINING { DRAIN_AFTER_EVICTION } else { Duration::ZERO }
    }

    /// Records that the connection has reached `stage`.
    pub(crate) fn record_stage(&self, stage: Stage) {
        self.update(|connection| connection.stage = connection.stage.max(stage));
    }

    /// Records that a request began.
    pub(crate) fn record_request(&self) {
        self.update(|connection| connection.last_active = Instant::now());
    }

    /// Records that a request was answered. Only success makes a connection useful: the connection of a caller whose
    /// requests are all rejected is not useful.
    pub(crate) fn record_response(&self, is_success: bool) {
        self.update(|connection| connection.last_active = Instant::now());
        if is_success {
            self.record_stage(Stage::Useful);
        }
    }

    fn update(&self, change: impl FnOnce(&mut OpenConnection)) {
        self.limiter.open().by_id.get_mut(&self.id).map(change);
    }

    /// Waits for a permit for `bytes`. The limiter may evict another connection to free bytes. Returns `None` when it
    /// has no connection to evict: the caller's own address has the most weight, and the other connections of that
    /// address hold no bytes.
    pub(crate) async fn wait_for_bytes(self: &Arc<Self>, bytes: usize) -> Option<BytePermit> {
        loop {
            let freed = self.limiter.0.freed.notified();
            match self.try_bytes(bytes) {
                ByteGrant::Granted(permit) => return Some(permit),
                ByteGrant::WaitForEviction => freed.await,
                ByteGrant::Unavailable => return None,
            }
        }
    }

    fn try_bytes(self: &Arc<Self>, bytes: usize) -> ByteGrant {
        let max = self.limiter.0.limits.max_total_body_bytes;
        let mut open = self.limiter.open();
        let held: usize = open.by_id.values().map(|connection| connection.bytes).sum();
        if held + bytes <= max {
            let Some(connection) = open.by_id.get_mut(&self.id) else { return ByteGrant::Unavailable };
            connection.bytes += bytes;
            return ByteGrant::Granted(BytePermit { connection: Arc::clone(self), bytes });
        }
        if open.by_id.values().any(|connection| connection.bytes > 0 && connection.evicted.is_cancelled()) {
            return ByteGrant::WaitForEviction;
        }
        // The victim belongs to the address with the most weight. The limiter evicts the least useful connection of
        // that address, and among equally useful ones the one that was quiet for longest. The requesting connection
        // stays.
        let heaviest = open.heaviest_address();
        let candidates = open.by_id.iter().filter(|(id, connection)| {
            **id != self.id && connection.bytes > 0 && Some(connection.address) == heaviest
        });
        let victim = candidates
            .map(|(_, connection)| connection)
            .min_by_key(|connection| (connection.stage, connection.last_active));
        match victim {
            Some(victim) => {
                victim.evicted.cancel();
                ByteGrant::WaitForEviction
            }
            None => ByteGrant::Unavailable,
        }
    }
}

impl OpenConnections {
    /// Returns the connections that are not evicted.
    fn live(&self) -> impl Iterator<Item = &OpenConnection> {
        self.by_id.values().filter(|connection| !connection.evicted.is_cancelled())
    }

    /// Returns the address with the most weight. The weight of a connection is the bytes that it holds, multiplied by
    /// the time since it was last active. The weight of an address is the sum over its connections. An API server that
    /// sends a large body quickly has less weight than an attacker that withholds the end of a small body for long.
    fn heaviest_address(&self) -> Option<IpAddr> {
        let mut weights: HashMap<IpAddr, u128> = HashMap::new();
        for connection in self.live() {
            let held_for = connection.last_active.elapsed().as_millis() + MIN_HOLDING_TIME.as_millis();
            let bytes = u128::try_from(connection.bytes).unwrap_or(u128::MAX);
            *weights.entry(connection.address).or_default() += bytes.saturating_mul(held_for);
        }
        weights.into_iter().max_by_key(|(_, weight)| *weight).map(|(address, _)| address)
    }

    /// Returns the connection to evict among those that match `filter`. Together, those connections may use `permits`
    /// permits.
    ///
    /// Each stage has its own share of the permits, so that no stage crowds out another: see [`Self::stage_to_evict`].
    /// Within a stage, the connections of an address with many of them are evicted first, then the connection that was
    /// quiet for longest.
    fn least_useful(
        &self,
        filter: impl Fn(&OpenConnection) -> bool,
        permits: usize,
    ) -> Option<&OpenConnection> {
        let candidates: Vec<&OpenConnection> = self.live().filter(|connection| filter(connection)).collect();
        let stage = Self::stage_to_evict(&candidates, permits);
        let candidates: Vec<_> =
            candidates.into_iter().filter(|connection| connection.stage == stage).collect();
        let mut count_by_address: HashMap<IpAddr, usize> = HashMap::new();
        for connection in &candidates {
            *count_by_address.entry(connection.address).or_default() += 1;
        }
        candidates.into_iter().min_by_key(|connection| {
            let count = count_by_address.get(&connection.address).copied().unwrap_or_default();
            (Reverse(count.saturating_sub(permits / FAIR_SHARE_DIVISOR)), connection.last_active)
        })
    }

    /// Returns the stage that loses a connection.
    ///
    /// Useful connections may have three quarters of the permits: a flood of others does not evict them, and they do
    /// not keep new callers out. Silent connections may have a quarter: every new caller is silent for a moment, and an
    /// attacker can be silent for long.
    fn stage_to_evict(candidates: &[&OpenConnection], permits: usize) -> Stage {
        let count = |stage| candidates.iter().filter(|connection| connection.stage == stage).count();
        let (silent, begun, useful) = (count(Stage::Silent), count(Stage::Begun), count(Stage::Useful));
        if useful > permits * 3 / 4 {
            Stage::Useful
        } else if silent > permits / 4 || (begun == 0 && silent > 0) {
            Stage::Silent
        } else if begun > 0 {
            Stage::Begun
        } else {
            Stage::Useful
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limiter.open().by_id.remove(&self.id);
        self.limiter.0.freed.notify_waiters();
    }
}

impl Drop for BytePermit {
    fn drop(&mut self) {
        let limiter = &self.connection.limiter;
        if let Some(connection) = limiter.open().by_id.get_mut(&self.connection.id) {
            connection.bytes -= self.bytes;
        }
        limiter.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
