//! Two replicas, one Lease, and an API server that is slow, loses answers and forgets the Lease: whatever
//! happens, they never lead at once.

use super::{lease::LeaseName, *};
use crate::testing::{ApiServer, Call, api_server};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

/// How long an election is watched, in the test's own time.
const WATCHED: Duration = Duration::from_secs(600);
/// How many elections there are, each with faults of its own.
const SEEDS: u64 = 20;
/// How soon the Lease is deleted again.
const LEAST_PEACE: Duration = Duration::from_secs(30);

/// Numbers that a seed determines (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// What the API server has.
#[derive(Default)]
struct Store {
    version: u64,
    lease: Option<Value>,
    /// Which of the replicas were answered with it.
    seen: [bool; 2],
}

type Stored = Arc<Mutex<Store>>;

/// Answers one replica's calls, after a while, or never.
async fn serve(replica: usize, mut server: ApiServer, stored: Stored, mut dice: Dice) {
    let mut away = false;
    loop {
        let call = server.any().await;
        if dice.below(30) == 0 {
            away = !away;
        }
        // Usually at once, at times for longer than a call, or a term, lasts.
        let pause = |dice: &mut Dice| match dice.below(8) {
            0 => Duration::from_millis(dice.below(12_000)),
            _ => Duration::from_millis(dice.below(50)),
        };
        tokio::time::sleep(pause(&mut dice)).await;
        if away {
            call.fail(503, "ServiceUnavailable");
            continue;
        }
        // A create names no version. That of a caller who has gone is not carried out; anything else may be.
        if call.method == "POST" && !call.is_awaited() {
            continue;
        }
        let answer = apply(&call, &stored);
        tokio::time::sleep(pause(&mut dice)).await;
        match answer {
            Ok(object) => {
                stored.lock().unwrap().seen[replica] |= call.reached(object);
            }
            Err((code, reason)) => call.fail(code, reason),
        }
    }
}

fn apply(call: &Call, stored: &Stored) -> Result<Value, (u16, &'static str)> {
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
    let stored = Stored::default();
    let (mut terms, mut tasks) = (Vec::new(), JoinSet::new());
    for replica in 0..2_usize {
        let (client, server) = api_server();
        let name = LeaseName {
            namespace: "certmint-system".into(),
            name: "certmint".into(),
            identity: format!("replica-{replica}"),
        };
        let (sender, receiver) = watch::channel(None);
        let dice = Dice((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (replica as u64 + 1));
        tasks.spawn(serve(replica, server, Arc::clone(&stored), dice));
        let campaign = Campaign { client, lease: name, clock: Clock::default(), terms: sender };
        tasks.spawn(campaign.run(CancellationToken::new()));
        terms.push(receiver);
    }
    let (start, mut dice, mut led, mut turns) = (Instant::now(), Dice(seed + 1), None, 0);
    let mut deleted = start;
    while start.elapsed() < WATCHED {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let leading: Vec<usize> = (0..2).filter(|replica| leads(&terms[*replica])).collect();
        assert!(leading.len() < 2, "seed {seed}: both lead after {:?}", start.elapsed());
        if let Some(leader) = leading.first()
            && led.replace(*leader) != Some(*leader)
        {
            turns += 1;
        }
        // Somebody deletes it, now that nobody can take it for one that never was.
        let mut stored = stored.lock().unwrap();
        if stored.seen == [true, true] && deleted.elapsed() > LEAST_PEACE && dice.below(200) == 0 {
            stored.lease = None;
            deleted = Instant::now();
        }
    }
    turns
}

#[tokio::test(start_paused = true)]
async fn two_replicas_never_lead_at_once() {
    let mut turns = 0;
    for seed in 0..SEEDS {
        turns += elect(seed).await;
    }
    assert!(turns > 2 * usize::try_from(SEEDS).unwrap(), "leadership changed {turns} times only");
}
