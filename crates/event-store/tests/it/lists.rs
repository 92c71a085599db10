//! Lists of likes by page.

use crate::support::{TestDb, at, comment_event, like, on_both, unlike, video};
use domain::{Action, ResourceType, UserId};
use event_store::{LikeCursor, LikePage, Within};

on_both!(
    likers_come_latest_first_page_by_page,
    liked_resources_come_latest_first_page_by_page,
    a_list_may_be_of_some_time_only,
);

const ALL: Within = Within { since: None, until: None };

async fn a_list_may_be_of_some_time_only(db: TestDb) {
    let events: Vec<_> = (1..=5).map(|user| like(user, 7, user * 10)).collect();
    db.store.apply(&events, at(1_000)).await.unwrap();
    let version = |at: Option<i64>| at.map(domain::Version);
    for (since, until, expected) in [
        (None, None, vec![5, 4, 3, 2, 1]),
        (Some(30), None, vec![5, 4, 3]),
        (None, Some(30), vec![2, 1]),
        (Some(20), Some(50), vec![4, 3, 2]),
        (Some(50), Some(20), vec![]),
    ] {
        let within = Within { since: version(since), until: version(until) };
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = db.store.list_likers(video(7), within, 2, after).await.unwrap();
            seen.extend(page.likes.iter().map(|liked| liked.pair.user.get()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "{since:?} {until:?}");
    }
    let user = UserId::new(3).unwrap();
    let within = Within { since: version(Some(31)), until: None };
    assert_eq!(db.store.list_liked(user, ResourceType::Video, within, 2, None).await.unwrap(), LikePage::default());
}

async fn likers_come_latest_first_page_by_page(db: TestDb) {
    // Users 1 to 7; 3 and 4 at the same version, 5 took it back, 1 liked again at last.
    let mut events: Vec<_> = [(1, 10), (2, 20), (3, 30), (4, 30), (5, 50), (6, 60), (7, 70)]
        .into_iter()
        .map(|(user, version)| like(user, 7, version))
        .collect();
    events.extend([
        unlike(5, 7, 80),
        unlike(1, 7, 81),
        like(1, 7, 90),
        like(8, 99, 95),
        comment_event(9, 7, Action::Like, 96),
    ]);
    db.store.apply(&events, at(1_000)).await.unwrap();

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = db.store.list_likers(video(7), ALL, 2, after).await.unwrap();
        assert!(page.likes.len() <= 2);
        seen.extend(page.likes.iter().map(|liked| (liked.pair.user.get(), liked.version.0)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [(1, 90), (7, 70), (6, 60), (4, 30), (3, 30), (2, 20)]);
    assert_eq!(db.store.list_likers(video(1_000), ALL, 2, None).await.unwrap(), LikePage::default());
}

async fn liked_resources_come_latest_first_page_by_page(db: TestDb) {
    let mut events: Vec<_> = (1..=5).map(|id| like(1, id, id * 10)).collect();
    events.extend([unlike(1, 3, 100), like(2, 3, 101), comment_event(1, 8, Action::Like, 102)]);
    db.store.apply(&events, at(1_000)).await.unwrap();
    let user = UserId::new(1).unwrap();
    let ids = |page: &LikePage| page.likes.iter().map(|liked| liked.pair.resource.id.get()).collect::<Vec<_>>();

    let first = db.store.list_liked(user, ResourceType::Video, ALL, 3, None).await.unwrap();
    assert_eq!(ids(&first), [5, 4, 2]);
    assert_eq!(first.next, Some(LikeCursor { version: domain::Version(20), id: 2 }));
    let second = db.store.list_liked(user, ResourceType::Video, ALL, 3, first.next).await.unwrap();
    assert_eq!((ids(&second), second.next), (vec![1], None));
    let comments = db.store.list_liked(user, ResourceType::Comment, ALL, 3, None).await.unwrap();
    assert_eq!((ids(&comments), comments.next), (vec![8], None));
}
