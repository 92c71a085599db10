//! `scripts/test_event_driven_sync.sh`: likes on their way through the system, with a look into every table and key after
//! each step.

use super::resource::{Kind, Resource};
use super::{System, fresh_id};
use crate::command;
use anyhow::{Context, Result};
use std::process::Stdio;

/// What `syncctl` says of a like or an unlike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    liked: bool,
    count: u64,
    version: u64,
    unchanged: bool,
}

impl Answer {
    fn parse(text: &str, resource: &str) -> Option<Self> {
        let rest = text.trim_end().strip_prefix(resource)?.strip_prefix(": ")?;
        let (liked, rest) = rest.split_once(", count ")?;
        let (count, rest) = rest.split_once(", version ")?;
        let (version, unchanged) = match rest.strip_suffix(", unchanged") {
            Some(version) => (version, true),
            None => (rest, false),
        };
        let liked = match liked {
            "liked" => true,
            "not liked" => false,
            _ => return None,
        };
        Some(Self { liked, count: count.parse().ok()?, version: version.parse().ok()?, unchanged })
    }
}

/// What a call should answer. `None`: anything.
#[derive(Clone, Copy)]
struct Expected {
    count: Option<u64>,
    /// The version that it repeats, or that it must come after.
    version: Version,
}

#[derive(Clone, Copy)]
enum Version {
    After(u64),
    Unchanged(u64),
    Any,
}

impl Expected {
    fn new(count: u64, version: Version) -> Self {
        Self { count: Some(count), version }
    }

    fn any() -> Self {
        Self { count: None, version: Version::Any }
    }

    fn accepts(self, answer: Answer) -> bool {
        let version = match self.version {
            Version::After(last) => answer.version > last && !answer.unchanged,
            Version::Unchanged(last) => answer.version == last && answer.unchanged,
            Version::Any => true,
        };
        version && self.count.is_none_or(|count| count == answer.count)
    }
}

struct Walk<'a> {
    system: &'a System,
    video: Resource<'a>,
    comment: Resource<'a>,
    /// What is wrong in the step.
    mistakes: Vec<String>,
    /// The version of the first user's last change of the video.
    last: u64,
    users: [u64; 3],
}

type Step = (&'static str, fn(&mut Walk<'_>) -> Result<()>);

const STEPS: &[Step] = &[
    ("a like arrives in all tables and keys", like),
    ("the same like again changes nothing", like_twice),
    ("an unlike leaves a tombstone", unlike),
    ("the same unlike again changes nothing", unlike_twice),
    ("a like again revives the row", like_again),
    ("a second user counts separately", second_user),
    ("eight likes at the same time are one", at_once),
    ("a comment is liked", comment_like),
    ("a comment is unliked", comment_unlike),
    ("the video of the same number is untouched", video_is_untouched),
    ("a lost counter and pair come back right", cache_lost),
    ("all likes are taken back", take_back),
];

/// Walks likes through the running system. Harmless on a live one: new users and resources, and all likes are taken back
/// at the end (tombstones and ledger rows stay).
pub(crate) fn walk() -> Result<bool> {
    let system = System::find()?;
    let id = fresh_id();
    let mut walk = Walk {
        system: &system,
        video: Resource::new(&system, Kind::Video, id)?,
        // The number of the video: types must not be mixed up.
        comment: Resource::new(&system, Kind::Comment, id)?,
        mistakes: vec![],
        last: 0,
        users: [fresh_id(), fresh_id(), fresh_id()],
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, step) in STEPS {
        if let Err(error) = step(&mut walk) {
            walk.mistakes.push(format!("{error:#}"));
        }
        if walk.mistakes.is_empty() {
            passed += 1;
            println!("PASS  {name}");
        } else {
            failed += 1;
            println!("FAIL  {name}\n        {}", walk.mistakes.join("\n        "));
        }
        walk.mistakes.clear();
    }
    println!("\n{passed} passed, {failed} failed");
    Ok(failed == 0)
}

impl Walk<'_> {
    fn of(&self, kind: Kind) -> &Resource<'_> {
        match kind {
            Kind::Video => &self.video,
            Kind::Comment => &self.comment,
        }
    }

    fn expect(&mut self, kind: Kind, what: &str, expected: &str, look: impl Fn(&Resource<'_>) -> Result<String>) {
        if let Err(seen) = self.system.becomes(expected, || look(self.of(kind))) {
            self.mistakes.push(format!("{what}: expected \"{expected}\", saw \"{seen}\""));
        }
    }

    /// By gRPC. Gives back the version; 0 if the answer has none.
    fn call(&mut self, kind: Kind, action: &str, user: u64, expected: Expected) -> u64 {
        let resource = self.of(kind).name();
        let (_, said) = self.system.ask(&[action, &user.to_string(), &resource]);
        let answer = Answer::parse(&said, &resource);
        let is_right = answer.is_some_and(|answer| answer.liked == (action == "like") && expected.accepts(answer));
        if !is_right {
            self.mistakes.push(format!("{action} answered \"{said}\""));
        }
        answer.map_or(0, |answer| answer.version)
    }

    /// Everywhere, and nothing is pending; the counter knows the newest revision.
    fn counts_are(&mut self, kind: Kind, count: u64) -> Result<()> {
        let counts = format!("{count} {count} 0 {count} {count}");
        self.expect(kind, "counts (gRPC, redis, pending, like_counts, rows)", &counts, |resource| {
            resource.all_counts()
        });
        let stored = self.of(kind).stored("CONCAT(like_count, ' ', revision)")?;
        self.expect(kind, "stored count and revision known to the counter", &stored, |resource| {
            Ok(format!("{} {}", resource.cached("dn")?, resource.cached("dr")?))
        });
        Ok(())
    }

    /// In row, cache, and by gRPC; the event has left the journal.
    fn pair_is(&mut self, kind: Kind, row: &str, user: u64, version: u64) {
        let liked = if row == "live" { "liked" } else { "not liked" };
        let shown = version.to_string();
        self.expect(kind, &format!("{}_likes", kind.name()), row, |resource| resource.row(user));
        self.expect(kind, "version of the row", &shown, |resource| resource.row_version(user));
        self.expect(kind, "cached pair", &format!("{liked} {version}"), |resource| resource.cached_pair(user));
        let (system, name) = (self.system, self.of(kind).name());
        let state = format!("{name}\t{liked}\t{version}\t-");
        let last_line = |said: String| said.lines().last().unwrap_or_default().to_owned();
        self.expect(kind, "state by gRPC", &state, |_| {
            Ok(last_line(system.ask(&["states", &user.to_string(), &name, "-o", "tsv"]).1))
        });
        self.expect(kind, "journal has no such entry", "", |resource| resource.in_journal(&shown));
    }

    /// Exactly these, all completed.
    fn events_are(&mut self, kind: Kind, user: u64, likes: u64, unlikes: u64) {
        let all = (likes + unlikes).to_string();
        self.expect(kind, "completed in sync_events", &all, |resource| resource.ledger(user, "completed"));
        self.expect(kind, "all in sync_events", &all, |resource| resource.ledger(user, "%"));
        for (action, count) in [("like", likes), ("unlike", unlikes)] {
            let name = format!("{}{action}", kind.behaviour_prefix());
            let what = format!("{name} in user_behaviors");
            self.expect(kind, &what, &count.to_string(), |resource| resource.behaviours(user, &name));
        }
    }
}

fn like(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, ..] = walk.users;
    walk.last = walk.call(Kind::Video, "like", ada, Expected::new(1, Version::After(0)));
    walk.pair_is(Kind::Video, "live", ada, walk.last);
    walk.events_are(Kind::Video, ada, 1, 0);
    walk.counts_are(Kind::Video, 1)
}

fn like_twice(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, ..] = walk.users;
    walk.call(Kind::Video, "like", ada, Expected::new(1, Version::Unchanged(walk.last)));
    walk.pair_is(Kind::Video, "live", ada, walk.last);
    walk.counts_are(Kind::Video, 1)
}

fn unlike(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, ..] = walk.users;
    walk.last = walk.call(Kind::Video, "unlike", ada, Expected::new(0, Version::After(walk.last)));
    walk.pair_is(Kind::Video, "tombstone", ada, walk.last);
    // The repeated like above must have left no event.
    walk.events_are(Kind::Video, ada, 1, 1);
    walk.counts_are(Kind::Video, 0)
}

fn unlike_twice(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, ..] = walk.users;
    walk.call(Kind::Video, "unlike", ada, Expected::new(0, Version::Unchanged(walk.last)));
    walk.pair_is(Kind::Video, "tombstone", ada, walk.last);
    walk.counts_are(Kind::Video, 0)
}

fn like_again(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, ..] = walk.users;
    walk.last = walk.call(Kind::Video, "like", ada, Expected::new(1, Version::After(walk.last)));
    walk.pair_is(Kind::Video, "live", ada, walk.last);
    walk.events_are(Kind::Video, ada, 2, 1);
    walk.counts_are(Kind::Video, 1)
}

fn second_user(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, bob, _] = walk.users;
    let version = walk.call(Kind::Video, "like", bob, Expected::new(2, Version::After(0)));
    walk.pair_is(Kind::Video, "live", bob, version);
    walk.pair_is(Kind::Video, "live", ada, walk.last);
    walk.events_are(Kind::Video, bob, 1, 0);
    walk.counts_are(Kind::Video, 2)
}

fn at_once(walk: &mut Walk<'_>) -> Result<()> {
    let [_, _, eve] = walk.users;
    let (user, resource) = (eve.to_string(), walk.video.name());
    let calls: Vec<_> = (0..8)
        .map(|_| command::start(walk.system.syncctl(&["like", &user, &resource]).stdout(Stdio::piped())))
        .collect::<Result<_>>()?;
    let (mut changed, mut failed) = (0, 0);
    for call in calls {
        let output = call.wait_with_output()?;
        let answer = Answer::parse(&String::from_utf8_lossy(&output.stdout), &resource);
        match answer.filter(|_| output.status.success()) {
            Some(answer) => changed += u64::from(!answer.unchanged),
            None => failed += 1,
        }
    }
    if (changed, failed) != (1, 0) {
        walk.mistakes.push(format!("of eight calls at the same time {changed} changed something and {failed} failed"));
    }
    walk.events_are(Kind::Video, eve, 1, 0);
    walk.counts_are(Kind::Video, 3)
}

fn comment_like(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, ..] = walk.users;
    let version = walk.call(Kind::Comment, "like", ada, Expected::new(1, Version::After(0)));
    walk.pair_is(Kind::Comment, "live", ada, version);
    walk.events_are(Kind::Comment, ada, 1, 0);
    walk.counts_are(Kind::Comment, 1)
}

fn comment_unlike(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, ..] = walk.users;
    let version = walk.call(Kind::Comment, "unlike", ada, Expected::new(0, Version::After(0)));
    walk.pair_is(Kind::Comment, "tombstone", ada, version);
    walk.events_are(Kind::Comment, ada, 1, 1);
    walk.counts_are(Kind::Comment, 0)
}

fn video_is_untouched(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, ..] = walk.users;
    walk.pair_is(Kind::Video, "live", ada, walk.last);
    walk.events_are(Kind::Video, ada, 2, 1);
    walk.counts_are(Kind::Video, 3)
}

fn cache_lost(walk: &mut Walk<'_>) -> Result<()> {
    let [ada, ..] = walk.users;
    walk.video.forget(ada).context("losing them")?;
    walk.call(Kind::Video, "like", ada, Expected::any());
    walk.counts_are(Kind::Video, 3)?;
    walk.expect(Kind::Video, "video_likes", "live", |resource| resource.row(ada));
    Ok(())
}

fn take_back(walk: &mut Walk<'_>) -> Result<()> {
    let [_, bob, eve] = walk.users;
    for user in walk.users {
        let expected = Expected { count: None, version: Version::After(0) };
        let version = walk.call(Kind::Video, "unlike", user, expected);
        walk.pair_is(Kind::Video, "tombstone", user, version);
    }
    walk.events_are(Kind::Video, bob, 1, 1);
    walk.events_are(Kind::Video, eve, 1, 1);
    walk.counts_are(Kind::Video, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_the_letter() {
        let parse = |text| Answer::parse(text, "video:7");
        let expected = Answer { liked: true, count: 1, version: 12, unchanged: false };
        assert_eq!(parse("video:7: liked, count 1, version 12"), Some(expected));
        let expected = Answer { liked: false, count: 0, version: 12, unchanged: true };
        assert_eq!(parse("video:7: not liked, count 0, version 12, unchanged\n"), Some(expected));
        for wrong in [
            "video:8: liked, count 1, version 12",
            "video:7: loved, count 1, version 12",
            "video:7: liked, count 1, version 12, degraded",
            "error: unavailable",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn expectations_are_about_count_and_version() {
        let answer = |version, unchanged| Answer { liked: true, count: 1, version, unchanged };
        assert!(Expected::new(1, Version::After(4)).accepts(answer(5, false)));
        assert!(!Expected::new(1, Version::After(5)).accepts(answer(5, false)));
        assert!(!Expected::new(1, Version::After(4)).accepts(answer(5, true)));
        assert!(Expected::new(1, Version::Unchanged(5)).accepts(answer(5, true)));
        assert!(!Expected::new(2, Version::Unchanged(5)).accepts(answer(5, true)));
        assert!(Expected::any().accepts(answer(5, true)));
    }
}
