//! Bytes: random, or something valid that was tampered with.

use interaction_proto::v1;
use prost::Message;
use test_support::Random;

const NUMBERS: [i64; 12] = [0, 1, -1, 2, 7, 42, 1000, 1 << 31, 1 << 40, i64::MAX, i64::MIN, i64::MAX - 1];

pub(super) fn one_of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len() as u64) as usize]
}

pub(super) fn chance(random: &mut Random, percent: i64) -> bool {
    random.below(100) < percent
}

pub(super) fn bytes(random: &mut Random, most: u64) -> Vec<u8> {
    (0..random.below(most + 1)).map(|_| random.below(256) as u8).collect()
}

/// Few ids, so that inputs meet each other, and the edges.
pub(super) fn number(random: &mut Random) -> i64 {
    if chance(random, 60) { 1 + random.below(500) } else { one_of(random, &NUMBERS) }
}

pub(super) fn text(random: &mut Random) -> String {
    match random.below(6) {
        0 | 1 => String::new(),
        2 => "1-ffffffffffffffff-1".to_owned(),
        3 => String::from_utf8_lossy(&bytes(random, 300)).into_owned(),
        4 => "x".repeat(random.below(3000) as usize),
        _ => format!("'; DROP TABLE sync_events; -- {}", random.below(1 << 30)),
    }
}

/// Changes a few bytes, cuts, repeats or inserts.
pub(super) fn tamper(random: &mut Random, mut given: Vec<u8>) -> Vec<u8> {
    for _ in 0..=random.below(3) {
        let at = random.below(given.len() as u64 + 1) as usize;
        match random.below(5) {
            0 if at < given.len() => given[at] ^= 1 << random.below(8),
            1 if at < given.len() => given[at] = random.below(256) as u8,
            2 => given.truncate(at),
            3 => {
                let again = given[at..].to_vec();
                given.extend(again.into_iter().take(200));
            }
            _ => {
                let inserted = bytes(random, 12);
                given.splice(at..at, inserted);
            }
        }
    }
    given
}

fn resource(random: &mut Random) -> Option<v1::Resource> {
    let kind = if chance(random, 80) { 1 + random.below(2) as i32 } else { number(random) as i32 };
    (!chance(random, 5)).then(|| v1::Resource { r#type: kind, id: number(random) })
}

fn resources(random: &mut Random) -> Vec<v1::Resource> {
    let many = if chance(random, 90) { random.below(12) } else { random.below(700) };
    (0..many).filter_map(|_| resource(random)).collect()
}

/// A message of a method, by the rules of protobuf at least.
pub(super) fn message(random: &mut Random, method: &str) -> Vec<u8> {
    let (user_id, target) = (number(random), resource(random));
    match method {
        "Like" | "Unlike" => {
            v1::LikeRequest { user_id, resource: target, idempotency_key: text(random) }.encode_to_vec()
        }
        "ApplyLikes" => {
            let operations = (0..random.below(20)).map(|_| v1::LikeOperation {
                user_id: number(random),
                resource: resource(random),
                action: if chance(random, 90) { 1 + random.below(2) as i32 } else { number(random) as i32 },
                idempotency_key: if chance(random, 90) { String::new() } else { text(random) },
            });
            v1::ApplyLikesRequest { operations: operations.collect() }.encode_to_vec()
        }
        "GetLikeCounts" | "WatchLikeCounts" => {
            v1::GetLikeCountsRequest { resources: resources(random), ..Default::default() }.encode_to_vec()
        }
        "GetLikeStates" | "GetLikeSummaries" => {
            v1::GetLikeStatesRequest { user_id, resources: resources(random) }.encode_to_vec()
        }
        "ListLikedResources" => v1::ListLikedResourcesRequest {
            user_id,
            r#type: number(random) as i32,
            page_size: number(random) as i32,
            page_token: text(random),
            since: time(random),
            until: time(random),
        }
        .encode_to_vec(),
        "ListLikers" => {
            let page_size = number(random) as i32;
            let (page_token, since, until) = (text(random), time(random), time(random));
            v1::ListLikersRequest { resource: target, page_size, page_token, since, until }.encode_to_vec()
        }
        "ListHotResources" | "GetConsistencyReport" => {
            let (r#type, limit, window) = (number(random) as i32, number(random) as i32, number(random) as i32);
            v1::ListHotResourcesRequest { r#type, limit, window }.encode_to_vec()
        }
        "CheckConsistency" => {
            v1::CheckConsistencyRequest { resource: target, dry_run: chance(random, 50) }.encode_to_vec()
        }
        "WarmUp" => v1::WarmUpRequest {
            top_resources: number(random) as i32,
            recent_events: number(random) as i32,
            resources: resources(random),
        }
        .encode_to_vec(),
        "ListEvents" => {
            let filter = chance(random, 80).then(|| filter(random));
            v1::ListEventsRequest { filter, page_size: number(random) as i32, page_token: text(random) }.encode_to_vec()
        }
        "ReplayEvents" | "DiscardEvents" => {
            let selection = v1::EventSelection {
                ids: (0..random.below(3)).map(|_| text(random)).collect(),
                filter: chance(random, 50).then(|| filter(random)),
                limit: number(random) as i32,
                page_token: if chance(random, 80) { String::new() } else { text(random) },
            };
            let selection = chance(random, 95).then_some(selection);
            let dry_run = chance(random, 50);
            v1::ReplayEventsRequest { selection, dry_run, actor: text(random), reason: text(random) }.encode_to_vec()
        }
        "ExplainLike" => v1::ExplainLikeRequest { user_id, resource: target }.encode_to_vec(),
        _ => text(random).into_bytes(),
    }
}

fn time(random: &mut Random) -> Option<prost_types::Timestamp> {
    let (seconds, nanos) = (number(random), number(random) as i32);
    chance(random, 20).then_some(prost_types::Timestamp { seconds, nanos })
}

fn filter(random: &mut Random) -> v1::EventFilter {
    let (since, until) = (time(random), time(random));
    v1::EventFilter {
        status: random.below(9) as i32,
        resource: if chance(random, 50) { resource(random) } else { None },
        user_id: if chance(random, 50) { number(random) } else { 0 },
        since,
        until,
    }
}

/// What is no message: random, endlessly nested, or with lengths that lie.
pub(super) fn nonsense(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => (0..random.below(150))
            .fold(Vec::new(), |inner, _| [&[0x0a, inner.len().min(127) as u8][..], &inner].concat()),
        1 => [&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &bytes(random, 40)].concat(),
        2 if chance(random, 2) => vec![0x0a; 300 * 1024],
        _ => bytes(random, 200),
    }
}
