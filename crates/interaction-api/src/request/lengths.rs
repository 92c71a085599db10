//! How long the message of a call may be, by whatever way it comes.

/// Longest message of a method in bytes; the test of `grpc::calls` has the longest legal ones.
const fn longest(method: &[u8]) -> usize {
    match method {
        b"InteractionService/ApplyLikes" | b"SyncAdminService/WarmUp" => LONGEST,
        b"SyncAdminService/ReplayEvents" | b"SyncAdminService/DiscardEvents" => 64 << 10,
        b"InteractionService/GetLikeCounts"
        | b"InteractionService/GetLikeStates"
        | b"InteractionService/GetLikeSummaries" => 16 << 10,
        _ => SHORT,
    }
}

/// No message of ours is longer.
pub(crate) const LONGEST: usize = 128 << 10;

/// No message of health and reflection is longer, nor that of a call about one thing.
pub(crate) const SHORT: usize = 4 << 10;

/// What precedes a message: whether it is compressed, and its length.
pub(crate) const PREFIX: usize = 5;

/// Longest body of a call: one message.
pub(crate) fn longest_body(path: &str) -> usize {
    path.strip_prefix("/interaction.v1.").map_or(SHORT, |method| longest(method.as_bytes())) + PREFIX
}
