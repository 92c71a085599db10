//! What is committed, as others read it: CloudEvents 1.0 in JSON, in batches of one key.
//!
//! An event is a state, not a step: of a pair the word that holds, ordered by its version; of a resource the count, ordered
//! by its revision. The same state has the same id, so repeating it is harmless, and whoever keeps the highest version and
//! revision has what the database has.
//!
//! Nothing here is escaped: what is not a number is a name of the domain's enums, or the prefix, which has none but letters,
//! digits, dots, hyphens and underscores.

use crate::stores::time_of;
use chrono::{Datelike, Timelike};
use domain::{Pair, PairState, Resource, StoredCount, Version};
use event_bus::ChangeMessage;

/// Most events of one message.
const MOST: usize = 500;

/// About the length of one.
const LENGTH: usize = 330;

/// Turns states into messages.
#[derive(Debug, Clone)]
pub(crate) struct ChangeEvents<'p> {
    prefix: &'p str,
    open: Vec<Open>,
    full: Vec<ChangeMessage>,
    events: usize,
}

/// A message that has room.
#[derive(Debug, Clone)]
struct Open {
    key: (&'static str, &'static str),
    events: usize,
    body: Text,
}

impl<'p> ChangeEvents<'p> {
    /// None yet, of the installation with this prefix.
    pub(crate) const fn of(prefix: &'p str) -> Self {
        Self { prefix, open: Vec::new(), full: Vec::new(), events: 0 }
    }

    /// One for each state that somebody wrote; and how many.
    pub(crate) fn messages(
        mut self,
        counts: &[(Resource, StoredCount)],
        pairs: &[(Pair, PairState)],
    ) -> (Vec<ChangeMessage>, usize) {
        for (resource, stored) in counts.iter().filter(|(_, stored)| stored.revision > 0) {
            self.count(*resource, *stored);
        }
        for (pair, state) in pairs.iter().filter(|(_, state)| state.version > Version::ZERO) {
            self.like(*pair, *state);
        }
        let mut messages = self.full;
        messages.extend(self.open.into_iter().map(Open::close));
        (messages, self.events)
    }

    fn count(&mut self, resource: Resource, stored: StoredCount) {
        let (prefix, (kind, id)) = (self.prefix, (resource.kind.name(), resource.id.get()));
        let StoredCount { count, revision, last_version } = stored;
        let body = self.event((kind, "count"));
        body.begin().text(kind).text("/").int(id).text("@").int(revision);
        body.source(prefix, "count").text(kind).text("/").int(id);
        body.data(last_version).text(kind).text(r#"","id":""#).int(id);
        body.text(r#"","count":""#).int(count).text(r#"","revision":""#).int(revision).text(r#""}}"#);
    }

    fn like(&mut self, pair: Pair, state: PairState) {
        let (prefix, kind) = (self.prefix, pair.resource.kind.name());
        let (id, user) = (pair.resource.id.get(), pair.user.get());
        let PairState { liked, version } = state;
        let body = self.event((kind, if liked { "like" } else { "unlike" }));
        body.begin().text(kind).text("/").int(id).text("/user/").int(user).text("@").int(version.0);
        body.source(prefix, "like").text(kind).text("/").int(id).text("/user/").int(user);
        body.data(version).text(kind).text(r#"","id":""#).int(id).text(r#"","user_id":""#).int(user);
        body.text(r#"","liked":"#).text(if liked { "true" } else { "false" });
        body.text(r#","version":""#).int(version.0).text(r#""}}"#);
    }

    /// Where the next event of a key is written.
    fn event(&mut self, key: (&'static str, &'static str)) -> &mut Text {
        self.events += 1;
        let at = match self.open.iter().position(|open| open.key == key) {
            Some(at) => at,
            None => {
                self.open.push(Open::new(key));
                self.open.len() - 1
            }
        };
        if self.open[at].events == MOST {
            let full = std::mem::replace(&mut self.open[at], Open::new(key));
            self.full.push(full.close());
        }
        let open = &mut self.open[at];
        open.body.text(if open.events == 0 { "[" } else { "," });
        open.events += 1;
        &mut open.body
    }
}

impl Open {
    fn new(key: (&'static str, &'static str)) -> Self {
        Self { key, events: 0, body: Text(Vec::with_capacity(8 * LENGTH)) }
    }

    fn close(self) -> ChangeMessage {
        let Self { key: (kind, what), body: Text(mut body), .. } = self;
        body.push(b']');
        ChangeMessage { key: format!("{kind}.{what}"), body }
    }
}

/// Written digit by digit, without the machinery of `fmt`: a batch has up to a thousand events.
#[derive(Debug, Clone)]
struct Text(Vec<u8>);

impl Text {
    fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn int(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.0.push(b'-');
        }
        self.digits(value.unsigned_abs(), 1)
    }

    /// At least so many.
    fn digits(&mut self, mut value: u64, width: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        while value > 0 || at > digits.len() - width {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.0.extend_from_slice(&digits[at..]);
        self
    }

    fn begin(&mut self) -> &mut Self {
        self.text(r#"{"specversion":"1.0","id":""#)
    }

    fn source(&mut self, prefix: &str, what: &str) -> &mut Self {
        self.text(r#"","source":"/"#).text(prefix).text(r#"","type":"interaction.v1."#).text(what);
        self.text(r#"","subject":""#)
    }

    /// With the time when it was accepted. A counter that no event has touched has none.
    fn data(&mut self, version: Version) -> &mut Self {
        self.text(r#"",""#);
        if version > Version::ZERO {
            let time = time_of(version);
            let number = u64::from;
            self.text(r#"time":""#).digits(time.year().unsigned_abs().into(), 4);
            self.text("-").digits(number(time.month()), 2).text("-").digits(number(time.day()), 2);
            self.text("T").digits(number(time.hour()), 2).text(":").digits(number(time.minute()), 2);
            self.text(":").digits(number(time.second()), 2).text(".");
            self.digits(number(time.timestamp_subsec_micros().min(999_999)), 6).text(r#"Z",""#);
        }
        self.text(r#"datacontenttype":"application/json","data":{"type":""#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;
    use serde_json::{Value, json};

    fn pair(user: i64, kind: ResourceType, id: i64) -> Pair {
        Pair::new(user, kind, id).unwrap()
    }

    fn read(messages: &[ChangeMessage]) -> Vec<(&str, Vec<Value>)> {
        messages.iter().map(|message| (message.key.as_str(), serde_json::from_slice(&message.body).unwrap())).collect()
    }

    #[test]
    fn an_event_is_a_cloud_event_with_the_state() {
        let version = Version(1_700_000_000_000_001);
        let one = pair(7, ResourceType::Video, 9_007_199_254_740_993);
        let stored = StoredCount { count: 3, revision: 12, last_version: version };
        let repaired = StoredCount { count: 0, revision: 1, last_version: Version::ZERO };
        let other = pair(8, ResourceType::Comment, 1);
        let (messages, events) = ChangeEvents::of("likes").messages(
            &[(one.resource, stored), (other.resource, repaired)],
            &[(one, PairState { liked: true, version }), (other, PairState { liked: false, version: Version(2) })],
        );
        let read = read(&messages);
        assert_eq!(events, 4);
        let keys: Vec<&str> = read.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["video.count", "comment.count", "video.like", "comment.unlike"]);
        let id = "9007199254740993";
        assert_eq!(
            read[0].1,
            [json!({
                "specversion": "1.0", "id": format!("video/{id}@12"), "source": "/likes",
                "type": "interaction.v1.count", "subject": format!("video/{id}"),
                "time": "2023-11-14T22:13:20.000001Z", "datacontenttype": "application/json",
                "data": {"type": "video", "id": id, "count": "3", "revision": "12"},
            })]
        );
        assert_eq!(read[1].1[0].get("time"), None);
        assert_eq!(
            read[2].1,
            [json!({
                "specversion": "1.0", "id": format!("video/{id}/user/7@1700000000000001"), "source": "/likes",
                "type": "interaction.v1.like", "subject": format!("video/{id}/user/7"),
                "time": "2023-11-14T22:13:20.000001Z", "datacontenttype": "application/json",
                "data": {"type": "video", "id": id, "user_id": "7", "liked": true, "version": "1700000000000001"},
            })]
        );
        assert_eq!(read[3].1[0]["data"]["liked"], json!(false));
    }

    #[test]
    fn messages_are_bounded_and_what_nobody_wrote_is_in_none() {
        let pairs: Vec<_> = (1..=1_201)
            .map(|user| {
                let liked = user % 2 == 0;
                (pair(user, ResourceType::Video, 1), PairState { liked, version: Version(user) })
            })
            .chain([(pair(9_999, ResourceType::Video, 1), PairState::UNTOUCHED)])
            .collect();
        let (messages, events) =
            ChangeEvents::of("x").messages(&[(pairs[0].0.resource, StoredCount::default())], &pairs);
        assert_eq!(events, 1_201);
        let read = read(&messages);
        let mut sizes: Vec<_> = read.iter().map(|(key, events)| (*key, events.len())).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [("video.like", 100), ("video.like", 500), ("video.unlike", 101), ("video.unlike", 500)]);
        assert!(messages.iter().all(|message| message.body.len() < MOST * LENGTH));
        assert_eq!(ChangeEvents::of("x").messages(&[], &[]), (Vec::new(), 0));
    }
}
