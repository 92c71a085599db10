//! One resource, call by call.

use super::*;
use domain::ResourceType;

const TTL: u64 = 100;

fn near(max_bytes: usize) -> NearCache {
    let ttl = Duration::from_micros(TTL);
    NearCache::new(&NearCacheConfig { enabled: true, ttl, max_bytes }).unwrap()
}

fn video(id: i64) -> Resource {
    Resource::new(ResourceType::Video, id).unwrap()
}

fn at(micros: u64) -> Moment {
    Moment(TTL + micros)
}

fn shown(near: &NearCache, id: i64, now: u64) -> Option<i64> {
    near.show(&[video(id)], Version::ZERO, at(now))[0]
}

fn accept(near: &NearCache, count: i64, version: i64, (asked, answered): (u64, u64)) {
    near.accepted(video(1), count, Version(version), at(asked), at(answered));
}

fn learn(near: &NearCache, count: i64, (asked, answered): (u64, u64)) {
    near.learn(video(1), count, at(asked), at(answered));
}

#[test]
fn a_count_is_shown_for_its_time_and_no_longer() {
    let near = near(1 << 16);
    assert_eq!(shown(&near, 1, 0), None);
    learn(&near, 7, (1, 3));
    assert_eq!(shown(&near, 1, TTL), Some(7));
    assert_eq!(shown(&near, 1, 1 + TTL), None, "its time is over");
    let comment = Resource::new(ResourceType::Comment, 1).unwrap();
    assert_eq!(near.show(&[comment, video(2)], Version::ZERO, at(2)), [None, None]);
    assert_eq!(near.show(&[video(1)], Version(1), at(4)), [None], "whoever names a version is shown nothing");
}

#[test]
fn a_read_from_before_a_like_does_not_hide_it() {
    for asked in [9, 12] {
        let near = near(1 << 16);
        learn(&near, 5, (1, 2));
        accept(&near, 6, 1_000, (10, 12));
        learn(&near, 6, (asked, 14));
        assert_eq!(shown(&near, 1, 20), Some(6), "it says the same");
        learn(&near, 5, (asked, 15));
        assert_eq!(shown(&near, 1, 20), None, "it may be older, or newer");
        learn(&near, 5, (15, 16));
        assert_eq!(shown(&near, 1, 20), None, "asked for before the other was here");
        learn(&near, 9, (16, 17));
        assert_eq!(shown(&near, 1, 20), Some(9));
    }
    // Of two reads it is not known either.
    let near = near(1 << 16);
    learn(&near, 5, (1, 4));
    learn(&near, 6, (2, 5));
    assert_eq!(shown(&near, 1, 6), None);
    // Older reads stay out when the like's own time is over.
    let slow = 14 + TTL;
    accept(&near, 10, 1_001, (14, slow));
    learn(&near, 9, (slow - 1, slow + 1));
    assert_eq!(shown(&near, 1, slow + 1), None);
}

#[test]
fn of_two_likes_the_newer_one_counts_whichever_answer_comes_first() {
    for order in [[0, 1], [1, 0]] {
        let near = near(1 << 16);
        let likes = [(6, 1_000, (10, 14)), (7, 1_001, (11, 13))];
        order.into_iter().for_each(|i| accept(&near, likes[i].0, likes[i].1, likes[i].2));
        assert_eq!(shown(&near, 1, 20), Some(7));
    }
    // Back from a lock that it waited for, meanwhile somebody read what it had done.
    let near = near(1 << 16);
    learn(&near, 8, (15, 16));
    accept(&near, 6, 1_000, (10, 14));
    assert_eq!(shown(&near, 1, 20), Some(8));
}

#[test]
fn a_lower_count_replaces_a_higher_one() {
    // An unlike, a repair, a failover that lost the newest likes.
    let near = near(1 << 16);
    accept(&near, 6, 1_000, (10, 12));
    accept(&near, 5, 1_001, (13, 14));
    assert_eq!(shown(&near, 1, 20), Some(5));
    learn(&near, 3, (15, 15));
    assert_eq!(shown(&near, 1, 20), Some(3));
    accept(&near, 4, 900, (16, 17));
    assert_eq!(shown(&near, 1, 20), Some(4), "who was answered last has an older version");
    accept(&near, 3, 899, (16, 18));
    assert_eq!(shown(&near, 1, 20), Some(4));
}

/// None of them is known to contain the others.
#[test]
fn what_is_on_its_way_at_the_same_time_is_asked_for_again() {
    let changes: [fn(&NearCache); 4] = [
        |near| learn(near, 5, (9, 12)),
        |near| near.forget(video(1), at(12)),
        |near| near.told(video(1), 5, at(9), at(12)),
        |near| accept(near, 5, 1_000, (9, 12)),
    ];
    let others: [fn(&NearCache); 3] = [
        |near| accept(near, 6, 1_001, (10, 14)),
        |near| near.told(video(1), 6, at(10), at(14)),
        |near| near.forget(video(1), at(14)),
    ];
    for (first, change) in changes.into_iter().enumerate() {
        for (second, other) in others.into_iter().enumerate() {
            let near = near(1 << 16);
            change(&near);
            other(&near);
            // Of two likes it is known.
            let expected = (first == 3 && second == 0).then_some(6);
            assert_eq!(shown(&near, 1, 15), expected, "{first} {second}");
            learn(&near, 5, (14, 15));
            assert_eq!(shown(&near, 1, 15), None, "{first} {second}: from before the answer");
            learn(&near, 6, (16, 17));
            assert_eq!(shown(&near, 1, 18), Some(6), "{first} {second}");
        }
    }
}

#[test]
fn who_is_told_of_a_like_sees_it() {
    let near = near(1 << 16);
    learn(&near, 5, (1, 9));
    near.told(video(1), 7, at(10), at(14));
    assert_eq!(shown(&near, 1, 15), Some(7));
    accept(&near, 6, 1_000, (11, 16));
    assert_eq!(shown(&near, 1, 17), None, "a like may be older than one that was asked for before it");
}

/// The clock was read before the place was free.
#[test]
fn a_mark_that_comes_late_is_one() {
    let near = near(1 << 16);
    accept(&near, 6, 1_000, (10, 14));
    near.forget(video(1), at(13));
    assert_eq!(shown(&near, 1, 15), None);
    learn(&near, 7, (15, 16));
    near.forget(video(1), at(14));
    assert_eq!(shown(&near, 1, 17), Some(7), "asked for afterwards");
    near.forget(video(1), at(20));
    learn(&near, 9, (19, 24));
    accept(&near, 8, 1_001, (22, 25));
    assert_eq!(shown(&near, 1, 26), None, "somebody was shown more meanwhile");
}

/// Whatever is asked for: memory is what was allowed, and a like that made room is not forgotten.
#[test]
fn it_is_bounded_and_what_makes_room_is_remembered() {
    let near = near(3 * size_of::<Mutex<Set>>());
    assert_eq!(near.sets.len(), 3);
    accept(&near, 6, 1_000, (10, 12));
    for id in 2..80_u32 {
        let asked = at(20 + u64::from(id) / 2);
        near.learn(video(id.into()), id.into(), asked, asked);
    }
    assert_eq!(shown(&near, 1, 61), None, "the oldest one has made room");
    learn(&near, 5, (11, 61));
    assert_eq!(shown(&near, 1, 61), None, "from before the like");
    accept(&near, 5, 999, (9, 61));
    assert_eq!(shown(&near, 1, 62), None, "a like from before the like");
    learn(&near, 6, (62, 63));
    assert_eq!(shown(&near, 1, 64), Some(6));
    let kept = (2..80).filter(|id| shown(&near, *id, 64).is_some()).count();
    assert_eq!(kept, 3 * WAYS - 1);
}

#[test]
fn it_can_be_switched_off() {
    assert!(NearCache::new(&NearCacheConfig { enabled: false, ..NearCacheConfig::default() }).is_none());
}
