//! The last word wins, on the real program, over bytes that came long before they made a request: the head of a call that stalls
//! half way, and a call that waits unread because its client takes no answers.

use crate::client::{Grpc, deployed, like, unlike, video};
use crate::malformed::http2::{PREFACE, frame, head};
use interaction_proto::v1;
use prost::Message;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// Longer than a call may take.
const LATE: Duration = Duration::from_millis(3_400);
const LIKE: &str = "/interaction.v1.InteractionService/Like";

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn call(stream: u32, path: &str, message: &impl Message) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, &head(path)), body(stream, message)].concat()
}

fn body(stream: u32, message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let prefix = u32::try_from(message.len()).unwrap().to_be_bytes();
    frame(0, END_STREAM, stream, &[&[0][..], &prefix, &message].concat())
}

/// Reads until the answer of this stream has ended.
async fn ended(connection: &mut TcpStream, stream: u32) {
    let read = async {
        loop {
            let mut head = [0; 9];
            connection.read_exact(&mut head).await.unwrap();
            let [high, middle, low, kind, flags, of @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            connection.read_exact(&mut payload).await.unwrap();
            if kind == HEADERS && flags & END_STREAM != 0 && u32::from_be_bytes(of) == stream {
                break;
            }
        }
    };
    timeout(Duration::from_secs(20), read).await.expect("the answer does not end");
}

/// What a user of another connection says meanwhile, and must be left with.
async fn last_words(client: &mut crate::client::Client, users: &[i64]) -> Vec<(i64, i64)> {
    let mut last = Vec::new();
    for user in users {
        client.like(like(*user, video(1))).await.unwrap();
        last.push((*user, client.unlike(unlike(*user, video(1))).await.unwrap().into_inner().version));
    }
    last
}

async fn are_last(client: &mut crate::client::Client, words: Vec<(i64, i64)>) {
    for (user_id, version) in words {
        let request = v1::GetLikeStatesRequest { user_id, resources: vec![video(1)] };
        let states = client.get_like_states(request).await.unwrap().into_inner().states;
        assert_eq!((states[0].liked, states[0].version), (false, version), "user {user_id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_whose_head_came_late_is_dead() {
    let deployment = deployed().await;
    let server = deployment.server().start_ready().await.unwrap();
    let mut client = server.client().await;
    let connected = async |first: &[u8]| {
        let mut connection = TcpStream::connect(server.grpc()).await.unwrap();
        connection.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), first].concat()).await.unwrap();
        connection
    };
    let head = head(LIKE);
    let whole = frame(HEADERS, END_HEADERS, 1, &head);
    let (most, last) = whole.split_at(whole.len() - 1);
    let mut without_last = connected(most).await;
    let (first, rest) = head.split_at(head.len() / 2);
    let mut in_two = connected(&frame(HEADERS, 0, 1, first)).await;
    let text = r#"{"user_id":"3","resource_type":"video","resource_id":"1","action":"like"}"#;
    let (begin, end) = ("POST /v1/likes HTTP/1.1\r\nHost: local", "host\r\nConnection: close\r\n");
    let mut by_http = TcpStream::connect(server.http()).await.unwrap();
    by_http.write_all(begin.as_bytes()).await.unwrap();

    sleep(LATE).await;
    let words = last_words(&mut client, &[1, 2, 3]).await;
    without_last.write_all(&[last, &body(1, &like(1, video(1)))].concat()).await.unwrap();
    ended(&mut without_last, 1).await;
    let rest = frame(CONTINUATION, END_HEADERS, 1, rest);
    in_two.write_all(&[rest, body(1, &like(2, video(1)))].concat()).await.unwrap();
    ended(&mut in_two, 1).await;
    let rest = format!("{end}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    by_http.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    by_http.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    are_last(&mut client, words).await;

    // The same connection, and nothing that is late.
    in_two.write_all(&call(3, LIKE, &like(4, video(1)))).await.unwrap();
    ended(&mut in_two, 3).await;
    let request = v1::GetLikeStatesRequest { user_id: 4, resources: vec![video(1)] };
    assert!(client.get_like_states(request).await.unwrap().into_inner().states[0].liked, "this was no like");
}

/// The server has a PONG to say, which nobody takes, and so reads nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_that_waits_unread_is_dead() {
    let deployment = deployed().await;
    let server = deployment.server().start_ready().await.unwrap();
    let mut client = server.client().await;
    let resources: Vec<v1::Resource> = (1..=500).map(video).collect();
    let many = v1::GetLikeCountsRequest { resources, ..Default::default() };
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let mut taking_nothing = socket.connect(server.grpc().parse().unwrap()).await.unwrap();
    let most = u32::try_from(i32::MAX).unwrap();
    let mut sent = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[&[0, 4][..], &most.to_be_bytes()].concat()),
        &frame(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes()),
    ]
    .concat();
    for stream in 0..100 {
        sent.extend(call(1 + 2 * stream, "/interaction.v1.InteractionService/GetLikeCounts", &many));
        if stream % 20 == 19 {
            taking_nothing.write_all(&std::mem::take(&mut sent)).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
    }
    taking_nothing.write_all(&frame(PING, 0, 0, &[7; 8])).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    taking_nothing.write_all(&call(2_001, LIKE, &like(1, video(1)))).await.unwrap();
    sleep(LATE).await;
    let words = last_words(&mut client, &[1]).await;
    ended(&mut taking_nothing, 2_001).await;
    are_last(&mut client, words).await;
}
