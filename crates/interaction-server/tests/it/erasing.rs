//! A user is erased, and a resource deleted and restored, by gRPC and by HTTP: what is asked, what is refused, and how far it has
//! come.

use crate::admin::{Admin, get, post};
use crate::client::{Grpc, PATIENCE, deployed, fields, like, operation, shared_server, started, unlike, video};
use interaction_proto::v1;
use serde_json::json;
use test_support::{eventually, expect_eq};
use tonic::{Code, Status};
use tonic_types::StatusExt;

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
    eventually(PATIENCE, "counts without them", async || {
        let request = v1::GetLikeCountsRequest { resources: vec![video(1), video(2)], ..Default::default() };
        let answer = client.clone().get_like_counts(request).await.map_err(|status| status.to_string())?.into_inner();
        expect_eq(answer.counts.iter().map(|count| count.count).collect::<Vec<_>>(), vec![1, 1])
    })
    .await;
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

fn delete(id: i64, dry_run: bool) -> v1::DeleteResourceRequest {
    let (actor, reason) = ("ann".to_owned(), "report 7".to_owned());
    v1::DeleteResourceRequest { resource: Some(video(id)), dry_run, actor, reason }
}

fn is_refused(status: &Status) -> bool {
    let details = status.get_error_details();
    status.code() == Code::NotFound && details.error_info().is_some_and(|info| info.reason == "RESOURCE_DELETED")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_is_deleted_and_restored_by_grpc_and_by_http() {
    let deployment = deployed().await;
    let (server, _consumer) = started(&deployment).await;
    let (mut client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    for user in 91..=93 {
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
    let named = |id: i64| json!({ "resource_type": "video", "resource_id": id, "actor": "bob" });

    let dry = admin.delete_resource(delete(1, true)).await.unwrap().into_inner();
    assert_eq!((dry.dry_run, dry.likes, dry.tombstones, dry.deletion), (true, 3, 0, None));
    let mut ask = named(2);
    ask["dry_run"] = true.into();
    let (code, body) = post(&server, "/resources/delete", &ask.to_string()).await;
    assert_eq!((code, &body["likes"], &body["deletion"].is_null()), (200, &3.into(), &true), "{body}");
    client.like(like(94, video(1))).await.unwrap();
    let never = v1::RestoreResourceRequest { resource: Some(video(3)), ..v1::RestoreResourceRequest::default() };
    assert_eq!(admin.restore_resource(never).await.unwrap().into_inner().deletion, None);

    let begun = admin.delete_resource(delete(1, false)).await.unwrap().into_inner();
    assert!(begun.deletion.as_ref().unwrap().up_to > 0, "{begun:?}");
    let (code, body) = post(&server, "/resources/delete", &named(2).to_string()).await;
    assert_eq!((code, &body["likes"]), (200, &3.into()), "{body}");
    // From the answer on, and not only of who had liked it.
    for user in [91, 99] {
        assert!(is_refused(&client.like(like(user, video(1))).await.unwrap_err()));
        assert!(is_refused(&client.unlike(unlike(user, video(2))).await.unwrap_err()));
    }
    let operations = [(95, 1), (95, 3)].map(|(user, id)| operation(user, video(id), v1::Action::Like)).to_vec();
    let results = client.apply_likes(v1::ApplyLikesRequest { operations }).await.unwrap().into_inner().results;
    let error = match &results[0].outcome {
        Some(v1::like_result::Outcome::Error(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!((error.code, error.reason.as_str()), (Code::NotFound.into(), "RESOURCE_DELETED"), "{error:?}");
    assert!(matches!(results[1].outcome, Some(v1::like_result::Outcome::Response(_))), "{results:?}");

    eventually(PATIENCE, "the end of both", async || {
        let request = v1::GetDeletionRequest { resource: Some(video(1)) };
        let one = admin.clone().get_deletion(request).await.unwrap().into_inner();
        let (_, other) = get(&server, "/resources/deletion?resource_type=video&resource_id=2").await;
        let ended = one.deletion.as_ref().is_some_and(|deletion| deletion.cleaned_at.is_some());
        if ended && other["deletion"]["cleaned_at"].is_string() { Ok(()) } else { Err(format!("{one:?} {other}")) }
    })
    .await;
    let of_others = "SELECT COUNT(*) FROM video_likes WHERE video_id <> 3";
    assert_eq!(deployment.sql(of_others).await.unwrap().trim(), "0");
    // As they are now, not as the server remembers them.
    let asked = v1::GetLikeCountsRequest { resources: vec![video(1), video(2), video(3)], least_version: 1 };
    let counts = client.get_like_counts(asked).await.unwrap().into_inner().counts;
    assert_eq!(counts.iter().map(|count| count.count).collect::<Vec<_>>(), [0, 0, 4]);

    let request = v1::RestoreResourceRequest { resource: Some(video(1)), ..v1::RestoreResourceRequest::default() };
    let restored = admin.restore_resource(request).await.unwrap().into_inner().deletion.unwrap();
    assert!(restored.restored_at.is_some() && restored.up_to == begun.deletion.unwrap().up_to, "{restored:?}");
    let (code, body) = post(&server, "/resources/restore", &named(2).to_string()).await;
    assert!(code == 200 && body["deletion"]["restored_at"].is_string(), "{code} {body}");
    for id in [1, 2] {
        let answer = client.like(like(91, video(id))).await.unwrap().into_inner();
        assert_eq!((answer.changed, answer.count), (true, Some(1)), "{answer:?}");
    }
    let audited = deployment.sql("SELECT action, actor, selection FROM operator_actions ORDER BY id").await.unwrap();
    let lines: Vec<&str> = audited.trim().lines().collect();
    let (ann, bob) = ("ann (127.0.0.1)", "bob (127.0.0.1)");
    let expected = [
        format!("delete_resource\t{ann}\tvideo:1"),
        format!("delete_resource\t{bob}\tvideo:2"),
        "restore_resource\t127.0.0.1\tvideo:1".to_owned(),
        format!("restore_resource\t{bob}\tvideo:2"),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_resource_is_deleted_must_be_said() {
    let server = shared_server().await;
    let mut admin = Admin::new(server.channel().await);
    assert_eq!(fields(admin.delete_resource(delete(0, true)).await.unwrap_err()), ["resource.id"]);
    let nothing = v1::RestoreResourceRequest { reason: "r".repeat(501), ..v1::RestoreResourceRequest::default() };
    assert_eq!(fields(admin.restore_resource(nothing).await.unwrap_err()), ["resource", "reason"]);
    for path in ["/resources/delete", "/resources/restore"] {
        let (code, body) = post(server, path, &json!({ "resource_type": "video" }).to_string()).await;
        assert!(code == 400 && body["error"].as_str().unwrap().starts_with("resource_id"), "{code} {body}");
    }
    assert_eq!(get(server, "/resources/deletion?resource_type=film&resource_id=1").await.0, 400);
}
