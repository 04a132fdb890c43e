//! Which replica writes: the holder of one Lease, and it stops before another may begin.
//!
//! Invariant: a replica leads until [`RENEW_WITHIN`] after the moment it *sent* its last successful renewal;
//! another takes over only [`LEASE_SECONDS`] after it *saw* that renewal. The first is shorter than the
//! second, and no clocks are compared, so two replicas never lead at once. What a leader writes goes through
//! [`fenced`], which asks again right before it is sent.

mod fence;
mod lease;

use crate::{api::ApiError, clock::Clock};
use lease::{Lease, Standing};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) use fence::fenced;
pub(crate) use lease::LeaseName;

/// How long a lease is good for after a renewal was seen.
pub(crate) const LEASE_SECONDS: u32 = 15;
/// How long a leader goes on without a successful renewal.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How often the lease is renewed, or looked at.
const PACE: Duration = Duration::from_secs(2);

/// Until when this replica leads; `None` while it does not.
pub(crate) type Term = Option<Instant>;

/// One replica's part in the election.
pub(crate) struct Campaign {
    /// The API server.
    pub(crate) client: kube::Client,
    /// Which lease, and as whom.
    pub(crate) lease: LeaseName,
    /// A replica whose clock differs from the API server's may not sign, so it leaves the lease to another.
    pub(crate) clock: Clock,
    /// Until when this replica leads. The term is moved forward with every renewal; once it has passed, this
    /// replica does not lead, whether or not `None` was sent yet.
    pub(crate) terms: watch::Sender<Term>,
}

impl Campaign {
    /// Takes part in the election until told to stop, and then gives the lease up.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Self { client, lease, clock, terms } = self;
        let mut lease = Lease::new(client, lease);
        while !shutdown.is_cancelled() {
            if clock.trusted_now().is_ok() {
                let sent = Instant::now();
                let term = standing_to_term(lease.attempt().await, sent, *terms.borrow());
                announce(&terms, term);
            } else {
                stand_down(&mut lease, &terms).await;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(PACE) => {}
            }
        }
        stand_down(&mut lease, &terms).await;
    }
}

/// Stops leading, and only then lets another begin.
async fn stand_down(lease: &mut Lease, terms: &watch::Sender<Term>) {
    announce(terms, None);
    if let Err(error) = lease.release().await {
        tracing::warn!(code = %error.code(), %error, "the lease was not given up; another replica leads once it has run out");
    }
}

/// Runs work for as long as this replica leads, and again whenever it leads again.
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
            begun = terms.wait_for(is_on) => if begun.is_err() { return },
        }
        // In this order: a process that was stopped and wakes up late must not begin another piece of work.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = end_of_term(&mut terms) => {}
            () = work() => return,
        }
    }
}

/// Whether this replica leads now.
pub(crate) fn leads(terms: &watch::Receiver<Term>) -> bool {
    is_on(&terms.borrow())
}

/// Waits until this replica no longer leads, if it did, or begins to.
pub(crate) async fn turns(terms: &mut watch::Receiver<Term>, led: bool) {
    if led {
        end_of_term(terms).await;
    } else if terms.wait_for(is_on).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn is_on(term: &Term) -> bool {
    term.is_some_and(|until| until > Instant::now())
}

/// Waits until the term has passed without having been moved forward, or was ended.
async fn end_of_term(terms: &mut watch::Receiver<Term>) {
    loop {
        let Some(until) = *terms.borrow_and_update() else { return };
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            changed = terms.changed() => if changed.is_err() { return },
        }
    }
}

fn standing_to_term(attempt: Result<Standing, ApiError>, sent: Instant, before: Term) -> Term {
    match attempt {
        Ok(Standing::Holder) => Some(sent + RENEW_WITHIN),
        Ok(Standing::Follower) => None,
        Err(error) => {
            tracing::warn!(code = %error.code(), %error, "the lease could not be renewed; this is tried again");
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
