//! Short builders of domain values for tests.

use domain::{Action, LikeEvent, LikeIntent, Origin, Pair, ResourceType, Version};
use uuid::Uuid;

/// The pair of a user and a video.
///
/// # Panics
/// Ids below 1.
pub fn video_pair(user: i64, video: i64) -> Pair {
    pair(user, ResourceType::Video, video)
}

/// The pair of a user and a comment.
///
/// # Panics
/// Ids below 1.
pub fn comment_pair(user: i64, comment: i64) -> Pair {
    pair(user, ResourceType::Comment, comment)
}

/// A fresh wish about a pair, without idempotency key or trace.
pub fn intent(pair: Pair, action: Action) -> LikeIntent {
    LikeIntent { id: Uuid::now_v7(), pair, action, idempotency_key: None, trace: None }
}

/// A journal event about a video with a fresh id.
///
/// # Panics
/// Ids below 1.
pub fn event(user: i64, video: i64, action: Action, version: i64) -> LikeEvent {
    event_of(video_pair(user, video), action, version)
}

/// A journal event about a comment with a fresh id.
///
/// # Panics
/// Ids below 1.
pub fn comment_event(user: i64, comment: i64, action: Action, version: i64) -> LikeEvent {
    event_of(comment_pair(user, comment), action, version)
}

/// A journal event about any pair with a fresh id.
pub fn event_of(pair: Pair, action: Action, version: i64) -> LikeEvent {
    LikeEvent { intent: intent(pair, action), version: Version(version), origin: Origin::Journal }
}

fn pair(user: i64, kind: ResourceType, id: i64) -> Pair {
    match Pair::new(user, kind, id) {
        Ok(pair) => pair,
        Err(error) => panic!("{error}"),
    }
}
