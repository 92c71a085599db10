use super::*;
use crate::listen::access::{Access, Role};
use axum::http::HeaderMap;

/// Without tokens everybody is let in.
fn anyone() -> Caller {
    Access::default().check(&HeaderMap::new(), Role::Read, false).unwrap()
}

fn own_call(link: &Link) -> Call {
    let call = link.call(false);
    call.stage().let_in(&anyone()).unwrap();
    call.stage().whole();
    call
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_idle_between_its_calls() {
    let (silent, link) = (Link::default(), Link::default());
    let (first, second) = (own_call(&link), own_call(&link));
    drop(first);
    assert_eq!(link.idle(), None);
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(second);
    assert!(link.is_idle() && silent.idle() == Some(Idle { known: false, begins: false, since: silent.0.accepted }));
    let since = link.0.accepted + Duration::from_secs(1);
    assert_eq!(link.idle(), Some(Idle { known: true, begins: false, since }));
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_the_place_while_it_is_whole_and_its_caller_known() {
    let link = Link::default();
    drop(own_call(&link));
    let begins = Idle { known: true, begins: true, since: link.0.accepted };
    assert_eq!(link.idle(), Some(Idle { begins: false, ..begins }));
    tokio::time::advance(Duration::from_secs(1)).await;
    let (unfinished, refused, late) = (link.call(false), link.call(false), link.call(false));
    unfinished.stage().let_in(&anyone()).unwrap();
    refused.stage().whole();
    assert_eq!(link.idle(), Some(begins), "neither of them is both");
    // In both orders, and each said more than once.
    for _ in 0..2 {
        unfinished.stage().whole();
        refused.stage().let_in(&anyone()).unwrap();
    }
    assert_eq!((link.idle(), link.0.own_calls.load(Ordering::Relaxed)), (None, 2));
    let after_its_end = late.stage();
    after_its_end.whole();
    drop((unfinished, refused, late));
    after_its_end.let_in(&anyone()).unwrap();
    assert_eq!(link.0.own_calls.load(Ordering::Relaxed), 0);
    let since = link.0.accepted + Duration::from_secs(1);
    let idle = Some(Idle { known: true, begins: false, since });
    assert_eq!(link.idle(), idle, "the last whole call ended then");
    tokio::time::advance(Duration::from_secs(1)).await;
    let given_up = link.call(false);
    given_up.stage().let_in(&anyone()).unwrap();
    drop(given_up);
    assert_eq!(link.idle(), idle, "one that never was whole is none");
}

#[tokio::test(start_paused = true)]
async fn who_shows_no_token_always_gives_way() {
    let link = Link::default();
    let (first, second) = (link.call(true), link.call(true));
    assert_eq!((first.open_calls(), second.open_calls(), link.call(false).open_calls()), (1, 2, 0));
    let stranger = Some(Idle { known: false, begins: false, since: link.0.accepted });
    tokio::time::advance(Duration::from_secs(1)).await;
    for call in [&first, &second] {
        call.stage().whole();
    }
    assert!(link.idle() == stranger && !link.is_idle(), "calls of health keep no place");
    let refused = link.call(false);
    refused.stage().whole();
    assert_eq!(link.idle(), stranger, "nobody let it in");
    drop((refused, first, second));
    assert!(link.idle() == stranger && link.is_idle());
    assert_eq!(link.call(true).open_calls(), 1);
}
