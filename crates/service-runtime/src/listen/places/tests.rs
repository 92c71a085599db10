use super::*;
use crate::listen::access::{Access, Caller, Role};
use crate::listen::link::Call;
use crate::listen::sweep::RESERVE_AGE;
use axum::http::{HeaderMap, HeaderValue, header};
use std::net::Ipv4Addr;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn places(connections: usize, per_address: usize, per_token: usize) -> Arc<Places> {
    let limits = Limits { connections, per_address, per_token, lifetime: None, unsent: usize::MAX };
    Places::new("grpc", limits, Pressure::default())
}

fn there(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

/// Whoever shows the token of this name.
fn caller(name: &str) -> Caller {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{name} read token-of-somebody\n")).unwrap();
    let config = crate::config::AccessConfig { tokens_file: Some(file.path().to_owned()), insecure: false };
    let value = HeaderValue::from_static("Bearer token-of-somebody");
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    Access::open(&config).unwrap().check(&headers, Role::Read, false).unwrap()
}

/// A call that has come so far.
fn call(place: &Place, of: &str, whole: bool) -> Call {
    let call = place.link().call(false);
    call.stage().let_in(&caller(of)).unwrap();
    if whole {
        call.stage().whole();
    }
    call
}

fn serve(place: &Place) {
    drop(call(place, "somebody", true));
}

fn is_cut(place: &Place) -> bool {
    !place.places.taken().has(place.number)
}

async fn enter(places: &Arc<Places>, from: IpAddr) -> Place {
    tokio::time::advance(Duration::from_millis(10)).await;
    places.enter(from)
}

#[tokio::test(start_paused = true)]
async fn the_oldest_idle_one_gives_way_and_first_whoever_made_no_call() {
    let places = places(3, 3, 3);
    let enter = async || enter(&places, HERE).await;
    let (busy, served, silent) = (enter().await, enter().await, enter().await);
    let _call = call(&busy, "somebody", true);
    serve(&served);
    assert_eq!(places.pressure.recent(), None);
    let fourth = enter().await;
    assert!(is_cut(&silent) && !is_cut(&served) && !fourth.link().is_reserve());
    assert!(places.pressure.recent().unwrap().contains("service.max_connections: 3 are open"));
    serve(&fourth);
    let fifth = enter().await;
    assert!(is_cut(&served) && !is_cut(&fourth));
    // Places are free with their values, and once only.
    drop(fifth);
    drop(served);
    let _sixth = enter().await;
    assert!(!is_cut(&fourth) && !is_cut(&busy));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_is_idle_the_newest_on_reserve_are_let_in() {
    let places = places(1, 1, 1);
    let busy = places.enter(HERE);
    let _call = call(&busy, "somebody", true);
    let reserve: Vec<_> = (0..=RESERVE).map(|_| places.enter(HERE)).collect();
    assert!(reserve.iter().all(|place| place.link().is_reserve()));
    let cut: Vec<_> = reserve.iter().map(is_cut).collect();
    assert!(cut[0] && !cut[1..].contains(&true), "{cut:?}");
    assert!(!is_cut(&busy));
}

#[tokio::test(start_paused = true)]
async fn another_address_has_its_own_share() {
    let places = places(10, 2, 10);
    let theirs: Vec<_> = (0..2).map(|_| places.enter(there(1))).collect();
    let _calls: Vec<_> = theirs.iter().map(|place| call(place, "somebody", true)).collect();
    assert!(places.enter(there(1)).link().is_reserve());
    assert!(!places.enter(there(2)).link().is_reserve());
}

#[tokio::test(start_paused = true)]
async fn of_whoever_has_most_one_gives_way_that_only_begins_calls() {
    let places = places(5, 5, 4);
    let honest = [enter(&places, there(1)).await, enter(&places, there(1)).await];
    serve(&honest[0]);
    serve(&honest[1]);
    // They come later, from elsewhere, and begin one call after the other.
    let mut theirs = Vec::new();
    for number in 2..5 {
        let place = enter(&places, there(number)).await;
        let begun = call(&place, "greedy", false);
        theirs.push((place, begun));
    }
    let next = enter(&places, there(9)).await;
    assert!(is_cut(&theirs[0].0) && !next.link().is_reserve());
    // Two each: what does not end goes first.
    let _call = call(&next, "another", true);
    let _last = enter(&places, there(9)).await;
    assert!(is_cut(&theirs[1].0) && !is_cut(&theirs[2].0) && !honest.iter().any(is_cut));
}

#[tokio::test(start_paused = true)]
async fn who_has_fewer_places_loses_none_however_long_they_are_idle() {
    let places = places(4, 4, 4);
    let mut all = Vec::new();
    for (number, of) in [(1, "modest"), (2, "greedy"), (3, "greedy"), (4, "greedy")] {
        let place = enter(&places, there(number)).await;
        drop(call(&place, of, true));
        all.push(place);
    }
    let _next = enter(&places, there(5)).await;
    assert!(!is_cut(&all[0]) && is_cut(&all[1]));
}

#[tokio::test(start_paused = true)]
async fn within_a_token_the_address_with_most_gives_way() {
    let places = places(4, 4, 4);
    let honest = enter(&places, there(1)).await;
    serve(&honest);
    let others = [enter(&places, there(2)).await, enter(&places, there(2)).await, enter(&places, there(2)).await];
    others.iter().for_each(serve);
    let _next = enter(&places, there(3)).await;
    assert!(!is_cut(&honest) && is_cut(&others[0]));
}

#[tokio::test(start_paused = true)]
async fn a_token_has_its_share_and_no_more() {
    let places = places(8, 8, 2);
    let busy = [enter(&places, there(1)).await, enter(&places, there(2)).await];
    let calls = busy.each_ref().map(|place| call(place, "greedy", true));
    let third = enter(&places, there(3)).await;
    assert!(!third.link().is_reserve(), "nobody knows whose it is");
    third.link().speaks();
    third.link().greets();
    let refused = third.link().call(false).stage().let_in(&caller("greedy"));
    assert_eq!((refused, third.link().lacks_place()), (Err(PER_TOKEN), Some(PER_TOKEN)));
    let said = places.pressure.recent().unwrap();
    assert!(said.contains("service.max_connections_per_token: 2 are open of the token greedy, none is idle"), "{said}");
    tokio::time::advance(RESERVE_AGE + STEP).await;
    assert_eq!(places.is_over(third.link()), Some("reserve"));
    drop(third);
    assert_eq!(places.taken().reserve(), 0);
    // Another token has its own, and one that is idle gives way to the next of its own.
    let other = enter(&places, there(3)).await;
    serve(&other);
    let [first, second] = calls;
    drop(second);
    let fourth = enter(&places, there(4)).await;
    drop(call(&fourth, "greedy", true));
    assert!(is_cut(&busy[1]) && !is_cut(&busy[0]) && !is_cut(&other) && !fourth.link().is_reserve());
    // It stays whose it was first, and is counted once.
    drop(call(&fourth, "other", true));
    drop(call(&fourth, "greedy", true));
    assert_eq!(["greedy", "other", "somebody"].map(|of| places.taken().of_token(of)), [2, 0, 1]);
    drop((first, busy, fourth, other));
    let taken = places.taken();
    assert_eq!((taken.of_token("greedy"), taken.of_address(Address::of(there(4)))), (0, 0));
}
