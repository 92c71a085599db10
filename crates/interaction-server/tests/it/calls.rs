//! Likes, batches, counts, states, limits.

use crate::client::{Grpc, comment, fresh_id, like, operation, shared_server, unlike, video};
use interaction_proto::v1;
use interaction_proto::v1::like_result::Outcome;
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_is_counted_once_and_taken_back_once() {
    let mut client = shared_server().await.client().await;
    let (user, other, id) = (fresh_id(), fresh_id(), fresh_id());
    let first = client.like(like(user, video(id))).await.unwrap().into_inner();
    assert!(first.liked && first.changed && !first.degraded && first.count == Some(1), "{first:?}");
    assert!(first.version > 1_600_000_000_000_000, "not microseconds: {}", first.version);

    let again = client.like(like(user, video(id))).await.unwrap().into_inner();
    assert_eq!(again, v1::LikeResponse { changed: false, ..first });

    let second = client.like(like(other, video(id))).await.unwrap().into_inner();
    assert!(second.changed && second.count == Some(2) && second.version > first.version, "{second:?}");
    // A comment of the same number is another resource.
    let elsewhere = client.like(like(user, comment(id))).await.unwrap().into_inner();
    assert!(elsewhere.changed && elsewhere.count == Some(1), "{elsewhere:?}");

    let back = client.unlike(unlike(user, video(id))).await.unwrap().into_inner();
    assert!(!back.liked && back.changed && back.count == Some(1) && back.version > second.version, "{back:?}");
    let again = client.unlike(unlike(user, video(id))).await.unwrap().into_inner();
    assert_eq!(again, v1::LikeResponse { changed: false, ..back });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_repeats_its_first_answer() {
    let mut client = shared_server().await.client().await;
    let (user, id) = (fresh_id(), fresh_id());
    let keyed = v1::LikeRequest { idempotency_key: "a-key".to_owned(), ..like(user, video(id)) };
    let first = client.like(keyed.clone()).await.unwrap().into_inner();
    assert!(first.changed && first.count == Some(1), "{first:?}");
    client.unlike(unlike(user, video(id))).await.unwrap();
    // The network repeated the like late: it must not undo the unlike.
    assert_eq!(client.like(keyed).await.unwrap().into_inner(), first);
    let request = v1::GetLikeStatesRequest { user_id: user, resources: vec![video(id)] };
    let states = client.get_like_states(request).await.unwrap().into_inner().states;
    assert!(!states[0].liked, "{states:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_of_a_batch_gets_its_own_answer_in_order() {
    let mut client = shared_server().await.client().await;
    let (tired, one, other, id) = (fresh_id(), fresh_id(), fresh_id(), fresh_id());
    exhaust(&mut client, tired).await;

    let liked = v1::Action::Like;
    let operations = vec![
        operation(one, video(id), liked),
        operation(tired, video(id), liked),
        operation(other, comment(id), liked),
        operation(one, video(id), liked),
        operation(one, video(id), v1::Action::Unlike),
    ];
    let results = client.apply_likes(v1::ApplyLikesRequest { operations }).await.unwrap().into_inner().results;
    let outcomes: Vec<Outcome> = results.into_iter().map(|result| result.outcome.unwrap()).collect();
    let seen: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Response(answer) => (answer.liked, answer.changed, answer.count.unwrap()),
            Outcome::Error(error) => {
                assert_eq!(error.code, i32::from(Code::ResourceExhausted), "{error:?}");
                assert!(error.retry_after_ms.is_some_and(|after| (1..=60_000).contains(&after)), "{error:?}");
                (false, false, -1)
            }
        })
        .collect();
    assert_eq!(
        seen,
        [(true, true, 1), (false, false, -1), (true, true, 1), (true, false, 1), (false, true, 0)],
        "{outcomes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_and_states_come_in_the_order_of_the_question() {
    let mut client = shared_server().await.client().await;
    let (user, other, a, b, unknown) = (fresh_id(), fresh_id(), fresh_id(), fresh_id(), fresh_id());
    client.like(like(user, video(a))).await.unwrap();
    client.like(like(other, video(a))).await.unwrap();
    client.like(like(other, comment(b))).await.unwrap();

    let resources = vec![video(unknown), comment(b), video(a), video(b), video(a)];
    let request = v1::GetLikeCountsRequest { resources: resources.clone(), ..Default::default() };
    let answer = client.get_like_counts(request).await.unwrap().into_inner();
    assert!(!answer.degraded);
    let counts: Vec<_> = answer.counts.iter().map(|count| count.count).collect();
    assert_eq!(counts, [0, 1, 2, 0, 2]);
    assert_eq!(answer.counts.iter().map(|count| count.resource.unwrap()).collect::<Vec<_>>(), resources);

    let request = v1::GetLikeStatesRequest { user_id: other, resources: resources.clone() };
    let states = client.get_like_states(request).await.unwrap().into_inner().states;
    assert_eq!(states.iter().map(|state| state.liked).collect::<Vec<_>>(), [false, true, true, false, true]);
    assert_eq!(states.iter().map(|state| state.version > 0).collect::<Vec<_>>(), [false, true, true, false, true]);
    assert_eq!(states.iter().map(|state| state.resource.unwrap()).collect::<Vec<_>>(), resources);

    // Both in one call.
    let request = v1::GetLikeSummariesRequest { user_id: other, resources: resources.clone(), ..Default::default() };
    let both = client.get_like_summaries(request).await.unwrap().into_inner();
    assert!(!both.degraded);
    let each = states.iter().zip(answer.counts).map(|(state, count)| v1::LikeSummary {
        resource: state.resource,
        count: count.count,
        liked: state.liked,
        version: state.version,
    });
    assert_eq!(both.summaries, each.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_over_the_limit_is_told_when_to_come_back() {
    let mut client = shared_server().await.client().await;
    let (user, neighbour) = (fresh_id(), fresh_id());
    exhaust(&mut client, user).await;
    let status = client.like(like(user, video(fresh_id()))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay).expect("no retry info");
    assert!(delay.as_millis() > 0 && delay.as_secs() < 60, "{delay:?}");
    assert!(client.like(like(neighbour, video(fresh_id()))).await.is_ok(), "a limit of one user met another");
}

/// Uses up a user's sixty likes per minute: more than that at once, and some came back meanwhile.
async fn exhaust(client: &mut crate::client::Client, user: i64) {
    let operations = (0..80).map(|_| operation(user, video(fresh_id()), v1::Action::Like)).collect();
    let results = client.apply_likes(v1::ApplyLikesRequest { operations }).await.unwrap().into_inner().results;
    let allowed = results.iter().filter(|result| matches!(result.outcome, Some(Outcome::Response(_)))).count();
    assert!((60..=62).contains(&allowed), "{allowed} of 80 were allowed");
}
