//! The last word wins, on the real programs: a caller that got no answer goes on at another server, and what the first
//! server does about it later must not undo that.

use crate::client::{Client, Grpc, PATIENCE, deployed, like, operation, started, unlike, video};
use interaction_proto::v1;
use std::time::Duration;
use test_support::{Links, eventually, expect_eq};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

/// Longer than a call may take.
const STOPPED: Duration = Duration::from_millis(3_400);

async fn state(client: &mut Client, user_id: i64, of: v1::Resource) -> (bool, i64) {
    let request = v1::GetLikeStatesRequest { user_id, resources: vec![of] };
    let states = client.get_like_states(request).await.unwrap().into_inner().states;
    (states[0].liked, states[0].version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_in_a_stopped_server_is_dead() {
    let deployment = deployed().await;
    let (stopped, other) =
        tokio::try_join!(deployment.server().start_ready(), deployment.server().start_ready()).unwrap();
    let (mut first, mut second) = (stopped.client().await, other.client().await);
    first.like(like(9, video(1))).await.unwrap();

    // It waits in the server's socket; its caller has no deadline and hears nothing.
    stopped.pause().unwrap();
    let waiting = tokio::spawn(async move { first.like(like(1, video(1))).await });
    tokio::time::sleep(STOPPED).await;
    // Meanwhile the user has asked elsewhere.
    second.like(like(1, video(1))).await.unwrap();
    let last = second.unlike(unlike(1, video(1))).await.unwrap().into_inner();
    stopped.resume().unwrap();
    let late = waiting.await.unwrap();
    assert_eq!(late.as_ref().map_err(tonic::Status::code).err(), Some(Code::Unavailable), "{late:?}");
    assert_eq!(state(&mut second, 1, video(1)).await, (false, last.version));
    // It serves again, once it has read what waited.
    eventually(PATIENCE, "a like", async || {
        let answer = stopped.client().await.like(like(2, video(1))).await.map_err(|status| status.to_string())?;
        expect_eq(answer.into_inner().count, Some(2))
    })
    .await;
}

/// Users who gave up while the server was stopped.
const GAVE_UP: std::ops::RangeInclusive<i64> = 1..=24;

/// A user who did not.
const STAYS: i64 = 99;

/// What each of `callers` began is given up while the server is stopped, and its user goes on elsewhere.
async fn given_up_while_stopped<C, F>(
    mut caller: impl AsyncFnMut(&test_support::Program, i64) -> C,
    call: impl Fn(C, i64) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let deployment = deployed().await;
    let (stopped, other) =
        tokio::try_join!(deployment.server().start_ready(), deployment.server().start_ready()).unwrap();
    let mut second = other.client().await;
    for round in 1..=3 {
        let mut callers = Vec::new();
        for user in GAVE_UP {
            callers.push((user, caller(&stopped, user).await));
        }
        stopped.pause().unwrap();
        let waiting: Vec<_> = callers.into_iter().map(|(user, caller)| tokio::spawn(call(caller, user))).collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        for call in waiting {
            call.abort();
            assert!(call.await.is_err_and(|end| end.is_cancelled()), "a stopped server answered");
        }
        let mut last = Vec::new();
        for user in GAVE_UP {
            second.like(like(user, video(1))).await.unwrap();
            last.push((user, second.unlike(unlike(user, video(1))).await.unwrap().into_inner().version));
        }
        stopped.resume().unwrap();
        // It has caught up when it answers what came after. Until then that may wait as long as the others did.
        eventually(PATIENCE, "a like", async || {
            let answer = stopped.client().await.like(like(100 + round, video(1))).await;
            answer.map(drop).map_err(|status| status.to_string())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        for (user, version) in last {
            assert_eq!(state(&mut second, user, video(1)).await, (false, version), "round {round}, user {user}");
        }
    }
}

/// It waits in the socket as long as the call, and behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_that_waited_in_a_stopped_server_counts() {
    let connected = async |server: &test_support::Program, user| {
        let mut client = server.client().await;
        client.get_like_states(v1::GetLikeStatesRequest { user_id: user, resources: vec![video(1)] }).await.unwrap();
        client
    };
    given_up_while_stopped(connected, |mut client, user| async move {
        let answer = client.like(like(user, video(1))).await;
        panic!("{answer:?}");
    })
    .await;
}

/// Over HTTP/1 a caller gives up by closing its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_closed_while_the_server_was_stopped_says_nothing() {
    let addressed = async |server: &test_support::Program, _| server.http();
    given_up_while_stopped(addressed, |addr, user| async move {
        let body = format!(r#"{{"user_id":"{user}","resource_type":"video","resource_id":"1","action":"like"}}"#);
        let answer = test_support::http::post_json(&addr, "/v1/likes", &body).await;
        panic!("{answer:?}");
    })
    .await;
}

/// Likes by HTTP/1 with these bytes behind the request; the first byte of the answer.
async fn like_with_more(addr: &str, user: i64, behind: &str) -> std::io::Result<u8> {
    let body = format!(r#"{{"user_id":"{user}","resource_type":"video","resource_id":"1","action":"like"}}"#);
    let head = "POST /v1/likes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ";
    let mut connection = TcpStream::connect(addr).await?;
    connection.write_all(format!("{head}{}\r\n\r\n{body}{behind}", body.len()).as_bytes()).await?;
    connection.read_u8().await
}

/// A server that reads no further than the request must see the end all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_connection_says_nothing_whatever_is_behind_its_request() {
    for behind in ["\r\n", "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let addressed = async |server: &test_support::Program, _| {
            // Who stays likes.
            like_with_more(&server.http(), STAYS, behind).await.unwrap();
            assert!(state(&mut server.client().await, STAYS, video(1)).await.0, "this is no like");
            server.http()
        };
        given_up_while_stopped(addressed, move |addr, user| async move {
            let answer = like_with_more(&addr, user, behind).await;
            panic!("{answer:?}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stops_in_a_row_are_one() {
    let deployment = deployed().await;
    let (stopped, other) =
        tokio::try_join!(deployment.server().start_ready(), deployment.server().start_ready()).unwrap();
    let mut second = other.client().await;
    // A connection each: what waits in them is read one after the other.
    let mut callers = Vec::new();
    for user in 1..=30 {
        let mut caller = stopped.client().await;
        caller.get_like_states(v1::GetLikeStatesRequest { user_id: user, resources: vec![video(1)] }).await.unwrap();
        callers.push((user, caller));
    }
    stopped.pause().unwrap();
    let waiting: Vec<_> = callers
        .into_iter()
        .map(|(user, mut caller)| tokio::spawn(async move { caller.like(like(user, video(1))).await }))
        .collect();
    tokio::time::sleep(STOPPED).await;
    let mut last = Vec::new();
    for user in 1..=30 {
        second.like(like(user, video(1))).await.unwrap();
        last.push(second.unlike(unlike(user, video(1))).await.unwrap().into_inner().version);
    }
    // It reads some of what waited, and is stopped again.
    stopped.resume().unwrap();
    tokio::time::sleep(Duration::from_millis(3)).await;
    stopped.pause().unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    stopped.resume().unwrap();
    for (user, late) in (1..=30).zip(waiting) {
        let late = late.await.unwrap();
        assert!(late.is_err(), "user {user}: {late:?}");
        assert_eq!(state(&mut second, user, video(1)).await, (false, last[user as usize - 1]), "user {user}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_the_cache_is_dead() {
    let deployment = deployed().await;
    let links = Links::to(&deployment).await.unwrap();
    // So patient that the call is still asked about when its caller has gone.
    let cut_off = deployment.clone().with("REDIS__RESPONSE_TIMEOUT", "8s").through(&links);
    let (held_up, other) = tokio::try_join!(cut_off.server().start_ready(), deployment.server().start_ready()).unwrap();
    let (mut first, mut second) = (held_up.client().await, other.client().await);
    first.like(like(9, video(1))).await.unwrap();

    links.redis.freeze();
    let mut request = Request::new(like(1, video(1)));
    request.set_timeout(Duration::from_millis(500));
    let given_up = first.like(request).await;
    assert!(given_up.is_err(), "{given_up:?}");
    second.like(like(1, video(1))).await.unwrap();
    let last = second.unlike(unlike(1, video(1))).await.unwrap().into_inner();
    links.redis.restore().await.unwrap();
    // Calls on the same connection come after it.
    eventually(PATIENCE, "the cache again", async || {
        let answer = held_up.client().await.like(like(3, video(1))).await.map_err(|status| status.to_string())?;
        expect_eq(answer.into_inner().degraded, false)
    })
    .await;
    assert_eq!(state(&mut second, 1, video(1)).await, (false, last.version));
}

/// A stalled uplink: the head of a call is there, the rest comes when its user has gone on elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_whose_body_came_late_is_dead() {
    let deployment = deployed().await;
    let server = deployment.server().start_ready().await.unwrap();
    let mut client = server.client().await;
    let (sender, messages) = tokio::sync::mpsc::channel(1);
    let mut by_grpc = tonic::client::Grpc::new(server.channel().await);
    let waiting = tokio::spawn(async move {
        by_grpc.ready().await.unwrap();
        let path = "/interaction.v1.InteractionService/Like".parse().unwrap();
        let codec = tonic_prost::ProstCodec::<v1::LikeRequest, v1::LikeResponse>::default();
        by_grpc.client_streaming(Request::new(ReceiverStream::new(messages)), path, codec).await
    });
    let body = r#"{"user_id":"2","resource_type":"video","resource_id":"1","action":"like"}"#;
    let head = "POST /v1/likes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let mut by_http = TcpStream::connect(server.http()).await.unwrap();
    by_http.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();

    tokio::time::sleep(STOPPED).await;
    let mut last = Vec::new();
    for user in [1, 2] {
        client.like(like(user, video(1))).await.unwrap();
        last.push(client.unlike(unlike(user, video(1))).await.unwrap().into_inner().version);
    }
    sender.send(like(1, video(1))).await.unwrap();
    drop(sender);
    let late = waiting.await.unwrap();
    assert_eq!(late.as_ref().map_err(tonic::Status::code).err(), Some(Code::Unavailable), "{late:?}");
    by_http.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    by_http.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for (user, version) in [1, 2].into_iter().zip(last) {
        assert_eq!(state(&mut client, user, video(1)).await, (false, version), "user {user}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_one_call_take_effect_in_their_order() {
    let deployment = deployed().await.with("RATE_LIMITING__USER_ACTION__ENABLED", "false");
    let (server, _consumer) = started(&deployment).await;
    let mut client = server.client().await;
    let words = [v1::Action::Like, v1::Action::Unlike];
    for round in 0..20 {
        let operations = (0..7).map(|n| operation(1, video(1), words[(round + n) % 2])).collect();
        let answers = client.apply_likes(v1::ApplyLikesRequest { operations }).await.unwrap().into_inner().results;
        let versions: Vec<(bool, i64)> = answers
            .into_iter()
            .map(|result| match result.outcome {
                Some(v1::like_result::Outcome::Response(answer)) => (answer.liked, answer.version),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(versions.is_sorted_by_key(|(_, version)| *version), "{versions:?}");
        let last = versions.last().copied().unwrap();
        assert_eq!(last.0, (round + 6) % 2 == 0, "{versions:?}");
        assert_eq!(state(&mut client, 1, video(1)).await, last);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_the_other_action_names_itself() {
    let server = crate::client::shared_server().await;
    let (mut client, video) = (server.client().await, video(crate::client::fresh_id()));
    let key = "tap-1".to_owned();
    let request = v1::LikeRequest { idempotency_key: key.clone(), ..like(1, video) };
    let first = client.like(request.clone()).await.unwrap().into_inner();
    let refused = client.unlike(v1::UnlikeRequest { idempotency_key: key, ..unlike(1, video) }).await.unwrap_err();
    assert_eq!(crate::client::fields(refused), ["idempotency_key"]);
    assert_eq!(client.like(request).await.unwrap().into_inner(), first);
    assert_eq!(state(&mut client, 1, video).await, (true, first.version));
}
