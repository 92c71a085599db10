//! A user is erased, by gRPC and by HTTP: what is asked, what is refused, and how far it has come.

use crate::admin::{Admin, get, post};
use crate::client::{Grpc, PATIENCE, deployed, fields, like, shared_server, started, video};
use interaction_proto::v1;
use serde_json::json;
use test_support::eventually;

fn erase(user_id: i64, dry_run: bool) -> v1::EraseUserRequest {
    v1::EraseUserRequest { user_id, dry_run, actor: "ann".to_owned(), reason: "ticket 4711".to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_erased_by_grpc_and_by_http() {
    let deployment = deployed().await;
    let (server, _consumer) = started(&deployment).await;
    let (mut client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    for user in [91, 92, 93] {
        for id in 1..=3 {
            client.like(like(user, video(id))).await.unwrap();
        }
    }
    let rows = "SELECT COUNT(*) FROM video_likes";
    eventually(PATIENCE, "rows", async || {
        let rows = deployment.sql(rows).await.unwrap();
        if rows.trim() == "9" { Ok(()) } else { Err(rows) }
    })
    .await;

    let dry = admin.erase_user(erase(91, true)).await.unwrap().into_inner();
    assert_eq!((dry.dry_run, dry.likes, dry.tombstones, dry.keys, dry.erasure), (true, 3, 0, 0, None));
    let (code, body) = post(&server, "/users/erase", &json!({ "user_id": 92, "dry_run": true }).to_string()).await;
    assert_eq!((code, &body["likes"], &body["erasure"].is_null()), (200, &3.into(), &true), "{body}");
    let (code, body) = get(&server, "/users/erasure?user_id=92").await;
    assert_eq!((code, body["erasure"].is_null()), (200, true), "{body}");
    assert_eq!(deployment.sql("SELECT COUNT(*) FROM erased_users WHERE user_id > 0").await.unwrap().trim(), "0");

    let begun = admin.erase_user(erase(91, false)).await.unwrap().into_inner();
    assert!(begun.erasure.as_ref().unwrap().up_to > 0 && begun.likes == 3, "{begun:?}");
    let ask = json!({ "user_id": 92, "actor": "bob" }).to_string();
    let (code, body) = post(&server, "/users/erase", &ask).await;
    assert_eq!((code, &body["likes"]), (200, &3.into()), "{body}");
    eventually(PATIENCE, "the end of both", async || {
        let one = admin.clone().get_erasure(v1::GetErasureRequest { user_id: 91 }).await.unwrap().into_inner();
        let (_, other) = get(&server, "/users/erasure?user_id=92").await;
        let ended = one.erasure.as_ref().is_some_and(|erasure| erasure.cleaned_at.is_some());
        if ended && other["erasure"]["cleaned_at"].is_string() { Ok(()) } else { Err(format!("{one:?} {other}")) }
    })
    .await;
    assert_eq!(deployment.sql(rows).await.unwrap().trim(), "3");
    let counts =
        client.get_like_counts(v1::GetLikeCountsRequest { resources: vec![video(1), video(2)] }).await.unwrap();
    let counts: Vec<i64> = counts.into_inner().counts.iter().map(|count| count.count).collect();
    assert_eq!(counts, [1, 1]);
    let audited =
        deployment.sql("SELECT action, actor, reason, selection FROM operator_actions ORDER BY id").await.unwrap();
    let lines: Vec<&str> = audited.trim().lines().collect();
    assert_eq!(lines, ["erase_user\tann (127.0.0.1)\tticket 4711\tNULL", "erase_user\tbob (127.0.0.1)\tNULL\tNULL"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_erased_must_be_said_and_not_in_the_reason() {
    let server = shared_server().await;
    let mut admin = Admin::new(server.channel().await);
    assert_eq!(fields(admin.erase_user(erase(0, true)).await.unwrap_err()), ["user_id"]);
    let names = v1::EraseUserRequest { reason: "user 4711 asked".to_owned(), ..erase(4711, true) };
    assert_eq!(fields(admin.erase_user(names).await.unwrap_err()), ["reason"]);
    // Another number.
    admin.erase_user(v1::EraseUserRequest { reason: "ticket 47110".to_owned(), ..erase(4711, true) }).await.unwrap();
    let (code, body) = post(server, "/users/erase", &json!({ "dry_run": true }).to_string()).await;
    assert!(code == 400 && body["error"].as_str().unwrap().starts_with("user_id"), "{code} {body}");
    assert_eq!(get(server, "/users/erasure?user_id=x").await.0, 400);
}
