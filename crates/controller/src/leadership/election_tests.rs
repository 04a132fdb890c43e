//! Simulated elections with two replicas and one Lease. The API server is slow, loses responses and loses the Lease.
//! The two replicas must never be leaders at the same time.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::task::JoinSet;

use super::lease::LeaseParams;
use super::*;
use crate::testing::{Call, MockApiServer, api_server};

/// Duration of one election, in simulated time.
const ELECTION_DURATION: Duration = Duration::from_secs(600);
/// Number of elections. Each seed gives other faults.
const SEEDS: u64 = 20;
/// Minimum time between two deletions of the Lease.
const MIN_TIME_BETWEEN_DELETIONS: Duration = Duration::from_secs(30);

/// Pseudorandom numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// State of the API server.
#[derive(Default)]
struct ServerState {
    version: u64,
    lease: Option<Value>,
    /// Whether each replica has received the Lease in a response.
    seen: [bool; 2],
}

type SharedState = Arc<Mutex<ServerState>>;

/// Answers the calls of one replica, after a delay, with an error, or never.
async fn serve(replica: usize, mut server: MockApiServer, stored: SharedState, mut random: Random) {
    let mut away = false;
    loop {
        let call = server.next_call().await;
        if random.below(30) == 0 {
            away = !away;
        }
        // Usually the delay is short. Sometimes it is longer than the time limit of a call, or than a term.
        let pause = |random: &mut Random| match random.below(8) {
            0 => Duration::from_millis(random.below(12_000)),
            _ => Duration::from_millis(random.below(50)),
        };
        tokio::time::sleep(pause(&mut random)).await;
        if away {
            call.fail(503, "ServiceUnavailable");
            continue;
        }
        // An update has a version as its precondition, a create has none. So the simulated API server does not execute
        // a create whose client no longer waits. It may still execute other calls.
        if call.method == "POST" && !call.is_awaited() {
            continue;
        }
        let response = apply(&call, &stored);
        tokio::time::sleep(pause(&mut random)).await;
        match response {
            Ok(object) => {
                stored.lock().unwrap().seen[replica] |= call.ok_if_awaited(object);
            }
            Err((code, reason)) => call.fail(code, reason),
        }
    }
}

fn apply(call: &Call, stored: &SharedState) -> Result<Value, (u16, &'static str)> {
    let mut stored = stored.lock().unwrap();
    let known = stored.lease.clone();
    match (call.method.as_str(), known) {
        ("GET", Some(object)) => return Ok(object),
        ("POST", Some(_)) => return Err((409, "AlreadyExists")),
        ("GET" | "PUT", None) => return Err((404, "NotFound")),
        ("PUT", Some(object))
            if call.body["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] =>
        {
            return Err((409, "Conflict"));
        }
        _ => {}
    }
    let mut object = call.body.clone();
    stored.version += 1;
    object["metadata"]["resourceVersion"] = stored.version.to_string().into();
    stored.lease = Some(object.clone());
    Ok(object)
}

async fn elect(seed: u64) -> usize {
    let stored = SharedState::default();
    let (mut terms, mut tasks) = (Vec::new(), JoinSet::new());
    for replica in 0..2_usize {
        let (client, server) = api_server();
        let name = LeaseParams {
            namespace: "certmint-system".into(),
            name: "certmint".into(),
            identity: format!("replica-{replica}"),
        };
        let (sender, receiver) = watch::channel(None);
        let random = Random((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (replica as u64 + 1));
        tasks.spawn(serve(replica, server, Arc::clone(&stored), random));
        let campaign = Campaign { client, lease: name, clock: Clock::default(), terms: sender };
        tasks.spawn(campaign.run(CancellationToken::new()));
        terms.push(receiver);
    }
    let (start, mut random, mut led, mut changes) = (Instant::now(), Random(seed + 1), None, 0);
    let mut deleted = start;
    while start.elapsed() < ELECTION_DURATION {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let leading: Vec<usize> = (0..2).filter(|replica| leads(&terms[*replica])).collect();
        assert!(leading.len() < 2, "seed {seed}: both replicas lead after {:?}", start.elapsed());
        if let Some(leader) = leading.first()
            && led.replace(*leader) != Some(*leader)
        {
            changes += 1;
        }
        // Delete the Lease only after both replicas have seen it. A replica that has not seen the Lease would create it
        // at once, as if it had never existed.
        let mut stored = stored.lock().unwrap();
        if stored.seen == [true, true]
            && deleted.elapsed() > MIN_TIME_BETWEEN_DELETIONS
            && random.below(200) == 0
        {
            stored.lease = None;
            deleted = Instant::now();
        }
    }
    changes
}

#[tokio::test(start_paused = true)]
async fn two_replicas_never_lead_at_the_same_time() {
    let mut changes = 0;
    for seed in 0..SEEDS {
        changes += elect(seed).await;
    }
    assert!(changes > 2 * usize::try_from(SEEDS).unwrap(), "leadership changed {changes} times only");
}
