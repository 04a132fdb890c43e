//! Leader election: the replica that holds the Lease writes, and it stops before another replica may begin.
//!
//! Invariant: a replica is the leader until [`RENEW_WITHIN`] after it *sent* its last successful renewal. Another
//! replica takes over no earlier than [`LEASE_SECONDS`] after it *saw* that renewal. The first period is shorter than
//! the second, and no clocks of two machines are compared, so two replicas are never leaders at the same time. The
//! leader's writes go through [`fenced`], which checks the term again right before a request is sent.

mod fence;
mod lease;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::lease::{Lease, LeaseRole};
use crate::api::ApiError;
use crate::clock::Clock;

pub(crate) use fence::fenced;
pub(crate) use lease::LeaseParams;

/// Duration of the Lease, in seconds. Another replica may take the Lease when it has seen no renewal for this time.
pub(crate) const LEASE_SECONDS: u32 = 15;
/// Time after the last successful renewal until the leader stops.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Interval at which the Lease is renewed or read.
const RENEW_INTERVAL: Duration = Duration::from_secs(2);

/// End of this replica's leadership term; `None` while it is not the leader.
pub(crate) type Term = Option<Instant>;

/// Takes part in the election for one replica.
pub(crate) struct Campaign {
    /// Client for the API server.
    pub(crate) client: kube::Client,
    /// Name of the Lease, and identity of this replica.
    pub(crate) lease: LeaseParams,
    /// The clock. A replica whose clock differs from the API server's must not sign, so it leaves the Lease to another
    /// replica.
    pub(crate) clock: Clock,
    /// This replica's term. Each renewal extends it. After its end this replica is not the leader, even if `None` was
    /// not sent yet.
    pub(crate) terms: watch::Sender<Term>,
}

impl Campaign {
    /// Takes part in the election until shutdown, and then releases the Lease.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Self { client, lease, clock, terms } = self;
        let mut lease = Lease::new(client, lease);
        while !shutdown.is_cancelled() {
            if clock.trusted_now().is_ok() {
                let sent = Instant::now();
                let term = term_after(lease.attempt().await, sent, *terms.borrow());
                announce(&terms, term);
            } else {
                stand_down(&mut lease, &terms).await;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(RENEW_INTERVAL) => {}
            }
        }
        stand_down(&mut lease, &terms).await;
    }
}

/// Ends the term, and only then releases the Lease.
async fn stand_down(lease: &mut Lease, terms: &watch::Sender<Term>) {
    announce(terms, None);
    if let Err(error) = lease.release().await {
        tracing::warn!(code = %error.code(), %error, "could not release the Lease; another replica takes it when it has expired");
    }
}

/// Runs work while this replica is the leader, and again when it becomes the leader again. Returns on shutdown, or when
/// the work ends on its own.
///
/// Work in progress is dropped at the end of a term.
pub(crate) async fn while_leading<F: Future<Output = ()>>(
    mut terms: watch::Receiver<Term>,
    shutdown: &CancellationToken,
    mut work: impl FnMut() -> F,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            begun = terms.wait_for(is_current) => if begun.is_err() { return },
        }
        // `biased` checks the end of the term first. So a process that was paused, and wakes up after the term, does
        // not start another step of its work.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = wait_for_end_of_term(&mut terms) => {}
            () = work() => return,
        }
    }
}

/// Returns whether this replica is the leader now.
pub(crate) fn leads(terms: &watch::Receiver<Term>) -> bool {
    is_current(&terms.borrow())
}

/// Waits until this replica's term ends if it was the leader before (`led`), otherwise until it becomes the leader.
pub(crate) async fn wait_for_change(terms: &mut watch::Receiver<Term>, led: bool) {
    if led {
        wait_for_end_of_term(terms).await;
    } else if terms.wait_for(is_current).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn is_current(term: &Term) -> bool {
    term.is_some_and(|until| until > Instant::now())
}

/// Waits until the term is over: its time has passed without an extension, or it was ended.
async fn wait_for_end_of_term(terms: &mut watch::Receiver<Term>) {
    loop {
        let Some(until) = *terms.borrow_and_update() else { return };
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            changed = terms.changed() => if changed.is_err() { return },
        }
    }
}

/// Returns the term after an attempt to renew or take the Lease. The attempt began at `sent`.
fn term_after(attempt: Result<LeaseRole, ApiError>, sent: Instant, before: Term) -> Term {
    match attempt {
        Ok(LeaseRole::Holder) => Some(sent + RENEW_WITHIN),
        Ok(LeaseRole::Follower) => None,
        Err(error) => {
            tracing::warn!(code = %error.code(), %error, "could not renew the Lease; the controller retries");
            before.filter(|until| *until > Instant::now())
        }
    }
}

fn announce(terms: &watch::Sender<Term>, term: Term) {
    terms.send_if_modified(|current| {
        if current.is_some() != term.is_some() {
            tracing::info!(leading = term.is_some(), "leadership changed");
        }
        std::mem::replace(current, term) != term
    });
}

#[cfg(test)]
mod election_tests;
#[cfg(test)]
mod tests;
