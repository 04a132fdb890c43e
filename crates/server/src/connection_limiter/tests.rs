use std::net::Ipv4Addr;

use super::*;

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
/// Timeout that is longer than anything that a test waits for.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a limiter for `max` connections, which may all come from one address.
fn limiter_for_connections(max: usize) -> ConnectionLimiter {
    let limits = Limits { max_connections: max, max_connections_per_address: max, ..Limits::default() };
    ConnectionLimiter::new(limits)
}

/// Returns a limiter for `max` connections from one address.
fn limiter_for_connections_per_address(max: usize) -> ConnectionLimiter {
    ConnectionLimiter::new(Limits { max_connections_per_address: max, ..Limits::default() })
}

/// Returns a limiter for `max` bytes of all bodies.
fn limiter_for_bytes(max: usize) -> ConnectionLimiter {
    ConnectionLimiter::new(Limits { max_total_body_bytes: max, ..Limits::default() })
}

/// Opens a connection, a moment after the previous one.
async fn connect(limiter: &ConnectionLimiter, address: IpAddr) -> Arc<ConnectionPermit> {
    tokio::time::advance(Duration::from_millis(1)).await;
    Arc::new(limiter.permit(address))
}

fn is_evicted(connection: &ConnectionPermit) -> bool {
    connection.evicted.is_cancelled()
}

/// Records that the connection got a response with success.
fn record_success(connection: &ConnectionPermit) {
    connection.record_response(true);
}

/// Returns a different address for each number.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, number).into()
}

#[tokio::test(start_paused = true)]
async fn an_address_over_its_limit_loses_its_quietest_connection() {
    let limiter = limiter_for_connections_per_address(2);
    let (first, second) = (connect(&limiter, ONE).await, connect(&limiter, ONE).await);
    let other = connect(&limiter, OTHER).await;
    tokio::time::advance(Duration::from_millis(1)).await;
    first.record_request();
    let third = connect(&limiter, ONE).await;
    assert!(is_evicted(&second));
    assert!(![&first, &third, &other].into_iter().any(|connection| is_evicted(connection)));
}

#[tokio::test(start_paused = true)]
async fn a_useful_connection_is_evicted_last_and_may_drain() {
    let limiter = limiter_for_connections_per_address(2);
    let useful = connect(&limiter, ONE).await;
    record_success(&useful);
    for _ in 0..9 {
        let idle = connect(&limiter, ONE).await;
        let _newer = connect(&limiter, ONE).await;
        assert!(is_evicted(&idle) && !is_evicted(&useful));
        assert_eq!(idle.wait_for_eviction().await, Duration::ZERO);
    }
    let other = connect(&limiter, ONE).await;
    record_success(&other);
    let _newest = connect(&limiter, ONE).await;
    assert_eq!(useful.wait_for_eviction().await, DRAIN_AFTER_EVICTION);
}

#[tokio::test(start_paused = true)]
async fn only_a_few_evicted_connections_may_drain() {
    let limiter = limiter_for_connections_per_address(1);
    let mut evicted = Vec::new();
    for _ in 0..MAX_DRAINING + 2 {
        let useful = connect(&limiter, ONE).await;
        record_success(&useful);
        evicted.push(useful);
    }
    // The newest connection is not evicted. The connection before it is one more than may drain at the same time.
    let last = &evicted[MAX_DRAINING];
    assert!(is_evicted(last));
    assert_eq!(last.wait_for_eviction().await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_permit_is_free_again() {
    let limiter = limiter_for_connections_per_address(1);
    drop(connect(&limiter, ONE).await);
    let second = connect(&limiter, ONE).await;
    assert!(!is_evicted(&second));
    drop(second);
    assert!(limiter.open().by_id.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_ipv4_address_in_ipv6_form_is_the_same_caller() {
    let limiter = limiter_for_connections_per_address(1);
    let first = connect(&limiter, "::ffff:10.0.0.1".parse().unwrap()).await;
    let _second = connect(&limiter, ONE).await;
    assert!(is_evicted(&first));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_held_until_the_permit_is_dropped() {
    let limiter = limiter_for_bytes(10);
    let connection = connect(&limiter, ONE).await;
    let held = connection.wait_for_bytes(10).await.unwrap();
    assert!(connection.wait_for_bytes(1).await.is_none());
    drop(held);
    assert!(connection.wait_for_bytes(10).await.is_some());
    assert!(!is_evicted(&connection));
}

#[tokio::test(start_paused = true)]
async fn the_heaviest_address_is_evicted_and_waited_for() {
    let limiter = limiter_for_bytes(10);
    let (heavy, light) = (connect(&limiter, ONE).await, connect(&limiter, OTHER).await);
    let held = heavy.wait_for_bytes(8).await.unwrap();
    let held_by_light = light.wait_for_bytes(1).await.unwrap();
    let waiting = tokio::spawn(async move { light.wait_for_bytes(4).await.is_some() });
    tokio::time::timeout(TIMEOUT, heavy.wait_for_eviction()).await.unwrap();
    assert!(!waiting.is_finished());
    drop(held);
    assert!(waiting.await.unwrap());
    drop(held_by_light);
}

#[tokio::test(start_paused = true)]
async fn the_heaviest_address_evicts_no_lighter_one() {
    let limiter = limiter_for_bytes(10);
    let (heavy, light) = (connect(&limiter, ONE).await, connect(&limiter, OTHER).await);
    let _light = light.wait_for_bytes(2).await.unwrap();
    let _heavy = heavy.wait_for_bytes(8).await.unwrap();
    assert!(heavy.wait_for_bytes(1).await.is_none());
    assert!(!is_evicted(&light));
}

#[tokio::test(start_paused = true)]
async fn a_new_address_outlives_many_addresses_with_all_permits() {
    let limiter = limiter_for_connections(64);
    let mut attack = Vec::new();
    for number in 0..64 {
        let connection = connect(&limiter, address(number)).await;
        connection.record_stage(Stage::Begun);
        attack.push(connection);
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let new = connect(&limiter, ONE).await;
    new.record_stage(Stage::Begun);
    for number in 64..120 {
        attack.push(connect(&limiter, address(number)).await);
        assert!(!is_evicted(&new), "after {number}");
    }
    assert!(attack.iter().take(10).all(|connection| is_evicted(connection)));
}

#[tokio::test(start_paused = true)]
async fn silent_connections_do_not_evict_a_useful_one() {
    let limiter = limiter_for_connections(16);
    let useful = connect(&limiter, ONE).await;
    record_success(&useful);
    let mut attack = Vec::new();
    for number in 0..200 {
        attack.push(connect(&limiter, address(number)).await);
    }
    assert!(!is_evicted(&useful));
}

#[tokio::test(start_paused = true)]
async fn useful_connections_leave_permits_to_new_ones() {
    let limiter = limiter_for_connections(16);
    let mut attack = Vec::new();
    for number in 0..100 {
        let connection = connect(&limiter, address(number)).await;
        record_success(&connection);
        attack.push(connection);
    }
    let new = connect(&limiter, ONE).await;
    for number in 100..103 {
        attack.push(connect(&limiter, address(number)).await);
    }
    assert!(!is_evicted(&new));
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_rejections_only_is_not_useful() {
    let limiter = limiter_for_connections(2);
    let rejected = connect(&limiter, OTHER).await;
    rejected.record_response(false);
    let useful = connect(&limiter, ONE).await;
    record_success(&useful);
    let _new = connect(&limiter, ONE).await;
    assert!(is_evicted(&rejected) && !is_evicted(&useful));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_evicted_before_one_that_sends() {
    let limiter = limiter_for_connections(2);
    let begun = connect(&limiter, ONE).await;
    begun.record_stage(Stage::Begun);
    let silent = connect(&limiter, OTHER).await;
    let _new = connect(&limiter, address(1)).await;
    assert!(is_evicted(&silent) && !is_evicted(&begun));
}

#[tokio::test(start_paused = true)]
async fn withheld_bytes_are_evicted_for_a_fast_large_body() {
    let limiter = limiter_for_bytes(100);
    let mut withheld = Vec::new();
    for number in 0..9 {
        let connection = connect(&limiter, address(number)).await;
        withheld.push((connection.wait_for_bytes(10).await.unwrap(), connection));
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    let fast = connect(&limiter, ONE).await;
    fast.record_request();
    let first = fast.wait_for_bytes(10).await.unwrap();
    let waiting = tokio::spawn(async move { (first, fast.wait_for_bytes(10).await.is_some()) });
    let (bytes, connection) = withheld.remove(0);
    tokio::time::timeout(TIMEOUT, connection.wait_for_eviction()).await.unwrap();
    drop((bytes, connection));
    assert!(waiting.await.unwrap().1);
}
