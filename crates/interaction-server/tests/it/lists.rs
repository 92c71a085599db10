//! Lists, read from the database by pages.

use crate::client::{Client, Grpc, PATIENCE, comment, fields, fresh_id, like, shared_server, unlike, video};
use interaction_proto::v1;
use test_support::{eventually, expect_eq};

async fn liked_page(client: &Client, user_id: i64, page_size: i32, token: &str) -> (Vec<i64>, String) {
    let request = v1::ListLikedResourcesRequest {
        user_id,
        r#type: v1::ResourceType::Video.into(),
        page_size,
        page_token: token.to_owned(),
        ..Default::default()
    };
    let page = client.clone().list_liked_resources(request).await.unwrap().into_inner();
    let times: Vec<_> = page.resources.iter().map(|liked| liked.liked_at.unwrap()).collect();
    assert!(times.windows(2).all(|pair| (pair[0].seconds, pair[0].nanos) >= (pair[1].seconds, pair[1].nanos)));
    assert!(times.iter().all(|time| time.seconds > 1_600_000_000), "{times:?}");
    (page.resources.iter().map(|liked| liked.resource.unwrap().id).collect(), page.next_page_token)
}

async fn likers_page(client: &Client, id: i64, page_size: i32, token: &str) -> (Vec<i64>, String) {
    let request = v1::ListLikersRequest {
        resource: Some(video(id)),
        page_size,
        page_token: token.to_owned(),
        ..Default::default()
    };
    let page = client.clone().list_likers(request).await.unwrap().into_inner();
    (page.likers.iter().map(|liker| liker.user_id).collect(), page.next_page_token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_likes_comes_latest_first_and_in_pages() {
    let mut client = shared_server().await.client().await;
    let user = fresh_id();
    let ids: Vec<i64> = (0..5).map(|_| fresh_id()).collect();
    for id in &ids {
        client.like(like(user, video(*id))).await.unwrap();
    }
    client.like(like(user, comment(ids[0]))).await.unwrap();
    client.like(like(fresh_id(), video(ids[0]))).await.unwrap();
    let latest_first: Vec<i64> = ids.iter().rev().copied().collect();
    eventually(PATIENCE, "five likes", async || {
        expect_eq(liked_page(&client, user, 0, "").await, (latest_first.clone(), String::new()))
    })
    .await;

    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let (page, next) = liked_page(&client, user, 2, &token).await;
        assert!(page.len() <= 2);
        seen.extend(page);
        pages += 1;
        if next.is_empty() {
            break;
        }
        token = next;
    }
    assert_eq!((seen, pages), (latest_first.clone(), 3));

    client.unlike(unlike(user, video(ids[4]))).await.unwrap();
    eventually(PATIENCE, "one like less", async || {
        expect_eq(liked_page(&client, user, 100, "").await.0, latest_first[1..].to_vec())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_likes_a_video_comes_latest_first_and_in_pages() {
    let mut client = shared_server().await.client().await;
    let id = fresh_id();
    let users: Vec<i64> = (0..4).map(|_| fresh_id()).collect();
    for user in &users {
        client.like(like(*user, video(id))).await.unwrap();
    }
    let latest_first: Vec<i64> = users.iter().rev().copied().collect();
    eventually(PATIENCE, "four likers", async || {
        expect_eq(likers_page(&client, id, 10, "").await.0, latest_first.clone())
    })
    .await;
    let (first, token) = likers_page(&client, id, 3, "").await;
    let (rest, end) = likers_page(&client, id, 3, &token).await;
    assert_eq!((first, rest, end), (latest_first[..3].to_vec(), latest_first[3..].to_vec(), String::new()));
    assert_eq!(likers_page(&client, fresh_id(), 0, "").await, (vec![], String::new()));

    // Of some time only: from the second liker on, before the last one; and a page token is of that list alone.
    let all = v1::ListLikersRequest { resource: Some(video(id)), ..Default::default() };
    let all = client.list_likers(all).await.unwrap().into_inner().likers;
    let some = v1::ListLikersRequest {
        resource: Some(video(id)),
        page_size: 1,
        since: all[2].liked_at,
        until: all[0].liked_at,
        ..Default::default()
    };
    let first = client.list_likers(some.clone()).await.unwrap().into_inner();
    let rest = v1::ListLikersRequest { page_token: first.next_page_token.clone(), page_size: 9, ..some };
    let rest = client.list_likers(rest).await.unwrap().into_inner();
    let seen: Vec<i64> = first.likers.iter().chain(&rest.likers).map(|liker| liker.user_id).collect();
    assert_eq!((seen, rest.next_page_token.as_str()), (latest_first[1..3].to_vec(), ""));
    let foreign =
        v1::ListLikersRequest { resource: Some(video(id)), page_token: first.next_page_token, ..Default::default() };
    assert_eq!(fields(client.list_likers(foreign).await.unwrap_err()), ["page_token"]);
}
