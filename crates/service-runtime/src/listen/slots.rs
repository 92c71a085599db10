//! Requests of ops HTTP that are worked on at once. One takes its turn when it is whole: who sends slowly holds up nobody.
//!
//! Likes have turns of their own: they need no database, and what waits for a slow one must not hold them up. Of the others no
//! caller has more than half.
//!
//! A request [arrived](Arrived) with its head, not when it was whole or its turn came: what it may do until when is counted from
//! then.

use crate::listen::access::{Caller, CallerAddress};
use crate::listen::address::Address;
use crate::listen::api_error::ApiError;
use crate::listen::ops::MAX_BODY_LEN;
use crate::listen::unfinished::{Refused, Unfinished};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Extensions, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// When a request had come at the latest; an extension of it.
#[derive(Debug, Clone, Copy)]
pub struct Arrived(pub Instant);

/// Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    writes: &'static [&'static str],
    for_writes: Arc<Semaphore>,
    for_others: Arc<Semaphore>,
    /// Of the others, by caller; those with a request.
    shares: Arc<Mutex<HashMap<Key, Arc<Semaphore>>>>,
    share: usize,
    unfinished: Unfinished,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Token(Arc<str>),
    Address(Option<Address>),
}

impl Key {
    fn of(extensions: &Extensions) -> Self {
        match extensions.get::<Caller>() {
            Some(caller) if caller.token_name().is_some() => Self::Token(Arc::clone(&caller.name)),
            _ => {
                let address = extensions.get().and_then(|CallerAddress(address)| *address);
                Self::Address(address.map(Address::of))
            }
        }
    }
}

impl Slots {
    /// So many of either kind; `writes` are the paths that have turns of their own.
    pub(crate) fn new(number: usize, writes: &'static [&'static str], unfinished: Unfinished) -> Self {
        let turns = || Arc::new(Semaphore::new(number));
        let share = number.div_ceil(2);
        Self { writes, for_writes: turns(), for_others: turns(), shares: Arc::default(), share, unfinished }
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<Key, Arc<Semaphore>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self, is_write: bool, key: Key) -> Turn {
        if is_write {
            return Turn { _turn: acquire(&self.for_writes).await, share: None };
        }
        let own = Arc::clone(self.shares().entry(key.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.share))));
        let mut share = Share { slots: self.clone(), key, own, permit: None };
        // The caller's own first: who waits for it takes nothing from anybody.
        share.permit = acquire(&share.own).await;
        Turn { _turn: acquire(&self.for_others).await, share: Some(share) }
    }
}

/// It is never closed.
async fn acquire(turns: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(turns).acquire_owned().await.ok()
}

struct Turn {
    _turn: Option<OwnedSemaphorePermit>,
    #[expect(dead_code, reason = "it is given back with the turn")]
    share: Option<Share>,
}

/// A place in a caller's share, or a wait for one.
struct Share {
    slots: Slots,
    key: Key,
    own: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.permit = None;
        let mut shares = self.slots.shares();
        // The map has one and this the other: the caller has no more requests, and begins one under the lock.
        if Arc::strong_count(&self.own) == 2 {
            shares.remove(&self.key);
        }
    }
}

/// A middleware; the body was bounded before.
pub(crate) async fn slot(State(slots): State<Slots>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if head.extensions.get::<Arrived>().is_none() {
        head.extensions.insert(Arrived(Instant::now()));
    }
    let body = match to_bytes(body, MAX_BODY_LEN).await {
        Ok(body) => body,
        // Its reason is said by whoever bounded it.
        Err(error) => return ApiError::bad_request(format!("body: {error}")).into_response(),
    };
    let is_write = head.method == Method::POST && slots.writes.contains(&head.uri.path());
    let mut turn = std::pin::pin!(slots.turn(is_write, Key::of(&head.extensions)));
    let turn = tokio::select! {
        biased;
        turn = turn.as_mut() => turn,
        // What waits for its turn is held in memory, as what is not complete.
        why = slots.unfinished.crowded(body.len()) => return crowded(why),
    };
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    drop(turn);
    response
}

fn crowded(why: Refused) -> Response {
    ApiError::unavailable(why.to_string()).because(why.because()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AccessConfig;
    use crate::listen::access::{Access, Role};
    use axum::http::header::AUTHORIZATION;
    use axum::http::{HeaderMap, HeaderValue};
    use axum::middleware::from_fn_with_state;
    use axum::routing::post;
    use axum::{Extension, Router};
    use std::time::Duration;
    use tokio::time::timeout;
    use tower::ServiceExt;

    const WRITES: &[&str] = &["/v1/likes"];

    #[tokio::test]
    async fn a_request_arrived_with_its_head_not_when_its_turn_came() {
        let took = Duration::from_millis(100);
        let handler = async move |Extension(Arrived(at)): Extension<Arrived>| {
            tokio::time::sleep(took).await;
            at.elapsed().as_millis().to_string()
        };
        let slots = Slots::new(1, WRITES, Unfinished::new(1 << 20));
        let router = Router::new().route("/v1/likes", post(handler)).layer(from_fn_with_state(slots, slot));
        let call = async || {
            let request = Request::post("/v1/likes").body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            let body = to_bytes(answer.into_body(), 100).await.unwrap();
            String::from_utf8_lossy(&body).parse::<u128>().unwrap()
        };
        let (one, other) = tokio::join!(call(), call());
        assert!(one.max(other) >= 2 * took.as_millis(), "{one} and {other}: the second waited for the first");
    }

    fn token(name: &str) -> Key {
        Key::Token(name.into())
    }

    #[tokio::test]
    async fn a_caller_has_half_of_the_turns_and_likes_have_their_own() {
        let slots = Slots::new(4, WRITES, Unfinished::new(1 << 20));
        let soon = Duration::from_millis(20);
        let held = [slots.turn(false, token("greedy")).await, slots.turn(false, token("greedy")).await];
        assert!(timeout(soon, slots.turn(false, token("greedy"))).await.is_err(), "more than half");
        let other = slots.turn(false, token("other")).await;
        let another = slots.turn(false, Key::Address(None)).await;
        assert!(timeout(soon, slots.turn(false, token("third"))).await.is_err(), "all are taken");
        let write = timeout(soon, slots.turn(true, token("greedy"))).await.expect("a like waits for reads");
        drop((held, other, another));
        let again = timeout(soon, slots.turn(false, token("greedy"))).await.unwrap();
        assert_eq!(slots.shares().len(), 1, "who has no request is forgotten");
        drop((again, write));
        assert!(slots.shares().is_empty());
    }

    #[test]
    fn a_caller_is_who_showed_a_token_else_an_address() {
        let (access, mut extensions) = (Access::default(), Extensions::new());
        assert_eq!(Key::of(&extensions), Key::Address(None));
        let address = std::net::IpAddr::from([192, 0, 2, 1]);
        extensions.insert(CallerAddress(Some(address)));
        extensions.insert(access.check(&HeaderMap::new(), Role::Read, false).unwrap());
        assert_eq!(Key::of(&extensions), Key::Address(Some(Address::of(address))), "nobody needs a token");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "somebody read looking-looking-1\n").unwrap();
        let config = AccessConfig { tokens_file: Some(file.path().to_owned()), insecure: false };
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer looking-looking-1"))]);
        extensions.insert(Access::open(&config).unwrap().check(&headers, Role::Read, false).unwrap());
        assert_eq!(Key::of(&extensions), token("somebody"));
    }
}
