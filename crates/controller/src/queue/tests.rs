//! Tests of the work queue.

use super::*;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[tokio::test(start_paused = true)]
async fn returns_a_key_added_twice_only_once() {
    let queue = Queue::default();
    queue.add("a");
    queue.add("a");
    assert_eq!(queue.next().await, "a");
    assert!(tokio::time::timeout(ms(100), queue.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn remembers_a_key_that_is_added_while_in_progress() {
    let queue = Queue::default();
    queue.add("a");
    let key = queue.next().await;
    queue.add("a");
    assert!(tokio::time::timeout(ms(100), queue.next()).await.is_err());
    queue.done(key, WorkOutcome::Settled);
    assert_eq!(queue.next().await, "a");
    queue.done("a", WorkOutcome::Settled);
    assert!(queue.lock().entries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_earlier_time_counts() {
    let queue = Queue::default();
    let start = Instant::now();
    queue.add_at("later", start + ms(900));
    queue.add_at("a", start + ms(500));
    queue.add_at("a", start + ms(100));
    queue.add_at("a", start + ms(300));
    assert_eq!(queue.next().await, "a");
    assert_eq!(start.elapsed(), ms(100));
    queue.done("a", WorkOutcome::CheckAt(start + ms(200)));
    assert_eq!(queue.next().await, "a");
    assert_eq!(start.elapsed(), ms(200));
}

#[tokio::test(start_paused = true)]
async fn an_added_key_wakes_a_worker_that_waits_for_a_later_one() {
    let queue = std::sync::Arc::new(Queue::default());
    queue.add_at("later", Instant::now() + Duration::from_secs(3600));
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.next().await }
    });
    tokio::task::yield_now().await;
    queue.add("now");
    assert_eq!(waiting.await.unwrap(), "now");
}

#[tokio::test(start_paused = true)]
async fn waits_longer_after_each_failure_until_a_success() {
    let queue = Queue::default();
    queue.add("a");
    let mut waits = Vec::new();
    for _ in 0..12 {
        let start = Instant::now();
        let key = queue.next().await;
        waits.push(start.elapsed());
        queue.add("a");
        queue.done(key, WorkOutcome::Failed);
    }
    assert_eq!(waits[..4], [ms(0), ms(200), ms(400), ms(800)]);
    assert_eq!(waits[11], MAX_BACKOFF);
    assert_eq!(queue.next().await, "a");
    queue.done("a", WorkOutcome::Settled);
    assert!(queue.lock().entries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_is_empty_and_forgets_keys_in_progress() {
    let queue = Queue::closed();
    queue.add("a");
    assert_eq!(queue.depth(), 0);
    let open = queue.open();
    queue.add("a");
    assert_eq!(queue.next().await, "a");
    drop(open);
    queue.add("b");
    assert!(queue.lock().entries.is_empty());
    let _open = queue.open();
    queue.add("a");
    assert_eq!(queue.next().await, "a");
}
