//! Everything that a caller may get wrong is refused by name.

use crate::client::{self, Client, Grpc, fresh_id, like, operation, shared_server, unlike, video};
use interaction_proto::v1;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

/// Fields that an INVALID_ARGUMENT names.
fn fields<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> Vec<String> {
    client::fields(answer.expect_err("accepted"))
}

async fn client() -> Client {
    shared_server().await.client().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_single_likes() {
    let mut client = client().await;
    assert_eq!(fields(client.like(like(0, video(1))).await), ["user_id"]);
    assert_eq!(fields(client.unlike(unlike(-5, video(-1))).await), ["user_id", "resource.id"]);
    let unknown = v1::Resource { r#type: 77, id: 1 };
    assert_eq!(fields(client.like(like(1, unknown)).await), ["resource.type"]);
    let unspecified = v1::Resource { r#type: 0, id: 1 };
    assert_eq!(fields(client.like(like(1, unspecified)).await), ["resource.type"]);
    let nothing = v1::LikeRequest { user_id: 1, ..Default::default() };
    assert_eq!(fields(client.like(nothing).await), ["resource"]);
    let long = v1::LikeRequest { idempotency_key: "k".repeat(129), ..like(1, video(1)) };
    assert_eq!(fields(client.like(long).await), ["idempotency_key"]);
    let fits = v1::LikeRequest { idempotency_key: "k".repeat(128), ..like(fresh_id(), video(fresh_id())) };
    assert!(client.like(fits).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_batches() {
    let mut client = client().await;
    let batch = |operations| v1::ApplyLikesRequest { operations };
    assert_eq!(fields(client.apply_likes(batch(vec![])).await), ["operations"]);
    let many = vec![operation(1, video(1), v1::Action::Like); 501];
    assert_eq!(fields(client.apply_likes(batch(many)).await), ["operations"]);
    // Each bad operation fails alone, at its place; around it everything happens in its order.
    let (user, id) = (fresh_id(), fresh_id());
    let mixed = vec![
        operation(user, video(id), v1::Action::Like),
        v1::LikeOperation { action: 9, ..operation(1, video(1), v1::Action::Like) },
        operation(user, video(id), v1::Action::Unlike),
        operation(0, video(1), v1::Action::Unspecified),
        v1::LikeOperation { idempotency_key: "k".repeat(129), ..operation(user, video(id), v1::Action::Like) },
        operation(user, video(id), v1::Action::Like),
        v1::LikeOperation { resource: None, ..operation(1, video(1), v1::Action::Like) },
    ];
    let results = client.apply_likes(batch(mixed)).await.unwrap().into_inner().results;
    let outcomes: Vec<_> = results.into_iter().map(|result| result.outcome.unwrap()).collect();
    let said: Vec<(Option<bool>, Vec<String>)> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            v1::like_result::Outcome::Response(answer) => (Some(answer.liked), Vec::new()),
            v1::like_result::Outcome::Error(error) => {
                assert_eq!(error.code, i32::from(Code::InvalidArgument), "{error:?}");
                assert!(error.message.starts_with(&error.field_violations[0].field), "{error:?}");
                assert!(error.retry_after_ms.is_none() && !error.field_violations[0].description.is_empty());
                (None, error.field_violations.into_iter().map(|violation| violation.field).collect())
            }
        })
        .collect();
    let named = |names: &[&str]| (None, names.iter().map(ToString::to_string).collect());
    let expected = [
        (Some(true), vec![]),
        named(&["operations[1].action"]),
        (Some(false), vec![]),
        named(&["operations[3].action", "operations[3].user_id"]),
        named(&["operations[4].idempotency_key"]),
        (Some(true), vec![]),
        named(&["operations[6].resource"]),
    ];
    assert_eq!(said, expected);
    let counts = v1::GetLikeCountsRequest { resources: vec![video(id)], ..Default::default() };
    assert_eq!(client.get_like_counts(counts).await.unwrap().into_inner().counts[0].count, 1);
    // A key of the other action, too, names its field.
    let keyed = |action| v1::LikeOperation { idempotency_key: "once".to_owned(), ..operation(user, video(id), action) };
    let both = batch(vec![keyed(v1::Action::Unlike), keyed(v1::Action::Like)]);
    let results = client.apply_likes(both).await.unwrap().into_inner().results;
    let Some(v1::like_result::Outcome::Error(reused)) = &results[1].outcome else { panic!("{results:?}") };
    assert_eq!(
        reused.field_violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(),
        ["operations[1].idempotency_key"]
    );

    let five_hundred: Vec<_> = (0..500).map(|_| operation(fresh_id(), video(id), v1::Action::Like)).collect();
    let results = client.apply_likes(batch(five_hundred)).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_reads() {
    let mut client = client().await;
    let counts = |resources| v1::GetLikeCountsRequest { resources, ..Default::default() };
    assert_eq!(fields(client.get_like_counts(counts(vec![])).await), ["resources"]);
    assert_eq!(fields(client.get_like_counts(counts(vec![video(1); 501])).await), ["resources"]);
    assert_eq!(fields(client.get_like_counts(counts(vec![video(1), video(0)])).await), ["resources[1].resource.id"]);
    let states = v1::GetLikeStatesRequest { user_id: 0, resources: vec![] };
    assert_eq!(fields(client.get_like_states(states).await), ["user_id", "resources"]);
    let summaries =
        v1::GetLikeSummariesRequest { user_id: 0, resources: vec![video(1), video(0)], ..Default::default() };
    assert_eq!(fields(client.get_like_summaries(summaries).await), ["user_id", "resources[1].resource.id"]);

    let liked = |user_id, r#type, page_size, token: &str| v1::ListLikedResourcesRequest {
        user_id,
        r#type,
        page_size,
        page_token: token.to_owned(),
        ..v1::ListLikedResourcesRequest::default()
    };
    assert!(client.list_liked_resources(liked(1, 1, i32::MAX, "")).await.is_ok(), "a large page was not cut");
    assert_eq!(fields(client.list_liked_resources(liked(1, 1, -1, "")).await), ["page_size"]);
    assert_eq!(fields(client.list_liked_resources(liked(1, 1, 1, "guess")).await), ["page_token"]);
    assert_eq!(fields(client.list_liked_resources(liked(0, 5, 0, "")).await), ["user_id", "type"]);
    let likers =
        v1::ListLikersRequest { resource: None, page_size: -1, page_token: "2-1-1".to_owned(), ..Default::default() };
    assert_eq!(fields(client.list_likers(likers).await), ["resource", "page_size", "page_token"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_beyond_the_bound_is_refused_and_the_connection_lives() {
    let mut client = client().await;
    let huge = v1::LikeRequest { idempotency_key: "k".repeat(1 << 20), ..like(1, video(1)) };
    let status = client.like(huge).await.unwrap_err();
    assert!(status.code() == Code::ResourceExhausted, "{status:?}");
    assert!(client.like(like(fresh_id(), video(fresh_id()))).await.is_ok());
}

/// What is no message, or none at all, is its caller's fault, also where no token is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_is_no_fault_of_ours() {
    let server = shared_server().await;
    for path in ["/interaction.v1.InteractionService/Like", "/grpc.health.v1.Health/Check"] {
        // By the contract there is a number, or text, where this has something else.
        let text = v1::LikeRequest { user_id: 7, idempotency_key: "\u{1}".to_owned(), ..Default::default() };
        for messages in [Vec::new(), vec![text]] {
            let mut grpc = tonic::client::Grpc::new(server.channel().await);
            grpc.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<v1::LikeRequest, v1::LikeResponse>::default();
            let none = messages.is_empty();
            let messages = tonic::Request::new(tokio_stream::iter(messages));
            let answer = grpc.client_streaming(messages, path.parse().unwrap(), codec).await;
            let status = answer.expect_err("an answer to nothing");
            assert_eq!(status.code(), Code::InvalidArgument, "{path}, none: {none}: {status:?}");
            let reason = status.get_details_error_info().map(|info| info.reason);
            assert_eq!(reason.as_deref(), Some("INVALID_REQUEST"), "{status:?}");
        }
    }
}
