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
    used.answered(true);
    for _ in 0..9 {
        let idle = place(&callers, ONE).await;
        let _newer = place(&callers, ONE).await;
        assert!(has_ended(&idle) && !has_ended(&used));
        assert_eq!(idle.ended().await, Duration::ZERO);
    }
    let other = place(&callers, ONE).await;
    other.answered(true);
    let _newest = place(&callers, ONE).await;
    assert_eq!(used.ended().await, FAREWELL);
}

#[tokio::test(start_paused = true)]
async fn few_have_time_for_farewells() {
    let callers = callers(99, 1, 9);
    let mut ended = Vec::new();
    for _ in 0..MAX_FAREWELLS + 2 {
        let used = place(&callers, ONE).await;
        used.answered(true);
        ended.push(used);
    }
    // The newest lives; the one before it is one too many among those that end.
    let last = &ended[MAX_FAREWELLS];
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

/// An address of its own for each number.
fn address(number: u8) -> IpAddr {
    std::net::Ipv4Addr::new(10, 0, 1, number).into()
}

#[tokio::test(start_paused = true)]
async fn many_addresses_that_hold_every_seat_give_way_to_a_new_one_and_it_is_not_the_next_to_go() {
    let callers = callers(64, 64, 9);
    let mut attack = Vec::new();
    for number in 0..64 {
        let place = place(&callers, address(number)).await;
        place.reached(Stage::Begun);
        attack.push(place);
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let new = place(&callers, ONE).await;
    new.reached(Stage::Begun);
    for number in 64..120 {
        attack.push(place(&callers, address(number)).await);
        assert!(!has_ended(&new), "after {number}");
    }
    assert!(attack.iter().take(10).all(|place| has_ended(place)));
}

#[tokio::test(start_paused = true)]
async fn empty_connections_of_many_addresses_do_not_end_one_of_use() {
    let callers = callers(16, 16, 9);
    let used = place(&callers, ONE).await;
    used.answered(true);
    let mut attack = Vec::new();
    for number in 0..200 {
        attack.push(place(&callers, address(number)).await);
    }
    assert!(!has_ended(&used));
}

#[tokio::test(start_paused = true)]
async fn connections_that_were_useful_once_leave_a_quarter_of_the_seats_to_who_comes() {
    let callers = callers(16, 16, 9);
    let mut attack = Vec::new();
    for number in 0..100 {
        let place = place(&callers, address(number)).await;
        place.answered(true);
        attack.push(place);
    }
    let new = place(&callers, ONE).await;
    for number in 100..103 {
        attack.push(place(&callers, address(number)).await);
    }
    assert!(!has_ended(&new));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_only_refused_is_not_of_use() {
    let callers = callers(2, 2, 9);
    let refused = place(&callers, OTHER).await;
    refused.answered(false);
    let used = place(&callers, ONE).await;
    used.answered(true);
    let _new = place(&callers, ONE).await;
    assert!(has_ended(&refused) && !has_ended(&used));
}

#[tokio::test(start_paused = true)]
async fn what_has_been_silent_goes_before_what_has_begun() {
    let callers = callers(2, 2, 9);
    let begun = place(&callers, ONE).await;
    begun.reached(Stage::Begun);
    let silent = place(&callers, OTHER).await;
    let _new = place(&callers, address(1)).await;
    assert!(has_ended(&silent) && !has_ended(&begun));
}

#[tokio::test(start_paused = true)]
async fn many_who_withhold_a_little_give_way_to_one_who_sends_much_at_once() {
    let callers = callers(99, 99, 100);
    let mut withheld = Vec::new();
    for number in 0..9 {
        let place = place(&callers, address(number)).await;
        withheld.push((place.room(10).await.unwrap(), place));
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    let fast = place(&callers, ONE).await;
    fast.begin();
    let first = fast.room(10).await.unwrap();
    let asking = tokio::spawn(async move { (first, fast.room(10).await.is_some()) });
    let (room, place) = withheld.remove(0);
    tokio::time::timeout(Duration::from_secs(60), place.ended()).await.unwrap();
    drop((room, place));
    assert!(asking.await.unwrap().1);
}
