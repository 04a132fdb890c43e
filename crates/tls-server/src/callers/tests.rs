use super::*;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

fn callers(connections: usize, connections_of_one: usize, bodies_bytes: usize) -> Callers {
    Callers::new(Limits { connections, connections_of_one, bodies_bytes, ..Limits::default() })
}

/// A place, a moment later than the last.
async fn place(callers: &Callers, address: IpAddr) -> Arc<Place> {
    tokio::time::advance(Duration::from_millis(1)).await;
    Arc::new(callers.place(address))
}

fn has_ended(place: &Place) -> bool {
    place.end.is_cancelled()
}

#[tokio::test(start_paused = true)]
async fn an_address_over_its_share_loses_the_connection_that_was_quiet_for_longest() {
    let callers = callers(9, 2, 9);
    let (first, second) = (place(&callers, ONE).await, place(&callers, ONE).await);
    let other = place(&callers, OTHER).await;
    tokio::time::advance(Duration::from_millis(1)).await;
    first.begin();
    let third = place(&callers, ONE).await;
    assert!(has_ended(&second));
    assert!(![&first, &third, &other].into_iter().any(|place| has_ended(place)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_use_is_the_last_to_end_and_has_time_for_it() {
    let callers = callers(9, 2, 9);
    let used = place(&callers, ONE).await;
    used.answered();
    for _ in 0..9 {
        let idle = place(&callers, ONE).await;
        let _newer = place(&callers, ONE).await;
        assert!(has_ended(&idle) && !has_ended(&used));
        assert_eq!(idle.ended().await, Duration::ZERO);
    }
    let other = place(&callers, ONE).await;
    other.answered();
    let _newest = place(&callers, ONE).await;
    assert_eq!(used.ended().await, FAREWELL);
}

#[tokio::test(start_paused = true)]
async fn few_of_one_address_have_time_for_farewells() {
    let callers = callers(99, 1, 9);
    let mut ended = Vec::new();
    for _ in 0..FAREWELLS + 2 {
        let used = place(&callers, ONE).await;
        used.answered();
        ended.push(used);
    }
    // The newest lives; the one before it is one too many among those that end.
    let last = &ended[FAREWELLS];
    assert!(has_ended(last));
    assert_eq!(last.ended().await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_place_given_back_is_free() {
    let callers = callers(9, 1, 9);
    drop(place(&callers, ONE).await);
    let second = place(&callers, ONE).await;
    assert!(!has_ended(&second));
    drop(second);
    assert!(callers.open().connections.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_ipv4_address_in_ipv6_form_is_the_same_caller() {
    let callers = callers(9, 1, 9);
    let first = place(&callers, "::ffff:10.0.0.1".parse().unwrap()).await;
    let _second = place(&callers, ONE).await;
    assert!(has_ended(&first));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_held_until_they_are_dropped() {
    let callers = callers(9, 9, 10);
    let own = place(&callers, ONE).await;
    let held = own.room(10).await.unwrap();
    assert!(own.room(1).await.is_none());
    drop(held);
    assert!(own.room(10).await.is_some());
    assert!(!has_ended(&own));
}

#[tokio::test(start_paused = true)]
async fn who_holds_most_gives_way_and_is_waited_for() {
    let callers = callers(9, 9, 10);
    let (heavy, light) = (place(&callers, ONE).await, place(&callers, OTHER).await);
    let held = heavy.room(8).await.unwrap();
    let light_one = light.room(1).await.unwrap();
    let asking = tokio::spawn(async move { light.room(4).await.is_some() });
    tokio::time::timeout(Duration::from_secs(60), heavy.ended()).await.unwrap();
    assert!(!asking.is_finished());
    drop(held);
    assert!(asking.await.unwrap());
    drop(light_one);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_most_does_not_take_it_from_who_holds_little() {
    let callers = callers(9, 9, 10);
    let (greedy, modest) = (place(&callers, ONE).await, place(&callers, OTHER).await);
    let _modest = modest.room(2).await.unwrap();
    let _greedy = greedy.room(8).await.unwrap();
    assert!(greedy.room(1).await.is_none());
    assert!(!has_ended(&modest));
}
