//! Names of keys. The hash tag `{s<N>}` keeps all keys of a shard together; after resharding it is `{s<N>.<epoch>}`.

use domain::{Erased, Fence, Pair, Resource, ResourceType, ShardCount, ShardId, UserId};
use std::fmt::Write;

/// Builds key names.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    shards: ShardCount,
}

impl Keys {
    /// Keys of data with `shards` shards, all starting with `prefix`.
    pub fn new(prefix: impl Into<String>, shards: ShardCount) -> Self {
        Self { prefix: prefix.into(), shards }
    }

    /// Journal stream of a shard.
    pub fn journal(&self, shard: ShardId) -> String {
        self.of_shard(shard, "j")
    }

    /// Clock and accounting of a shard.
    pub fn clock(&self, shard: ShardId) -> String {
        self.of_shard(shard, "t")
    }

    /// What writers had committed last, as settlements told a shard.
    pub(crate) fn writers(&self, shard: ShardId) -> String {
        self.of_shard(shard, "w")
    }

    /// Counter of a resource.
    pub fn counter(&self, resource: Resource) -> String {
        let mut key = String::with_capacity(self.prefix.len() + 48);
        self.write_counter(&mut key, resource);
        key
    }

    /// The same instead of what is in `key`: who names many does not allocate for each.
    pub(crate) fn write_counter(&self, key: &mut String, resource: Resource) {
        key.clear();
        let shard = self.shards.name_of(self.shards.of(resource));
        // A string takes everything.
        let _ = write!(key, "{}{{{shard}}}:c:{}{}", self.prefix, resource.kind.letter(), resource.id);
    }

    /// State of a pair.
    pub fn pair(&self, pair: Pair) -> String {
        let mut key = self.start(self.shards.of(pair.resource), 64);
        let _ = write!(key, "p:{}{}:{}", pair.resource.kind.letter(), pair.user, pair.resource.id);
        key
    }

    /// Pattern of all [pairs](Self::pair).
    pub(crate) fn any_pair(&self) -> String {
        self.escaped_prefix() + "{s*}:p:*"
    }

    fn escaped_prefix(&self) -> String {
        let mut pattern = String::with_capacity(self.prefix.len() + 16);
        for c in self.prefix.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern
    }

    /// Pattern of all [pairs](Self::pair) and [answers](Self::idempotency) of users and resources, and of some others: of one it is
    /// narrow, so that Redis names few.
    pub(crate) fn any_of(&self, fences: &[Fence]) -> String {
        let prefix = self.escaped_prefix();
        match fences {
            [Fence { of: Erased::User(user), .. }] => format!("{prefix}{{s*}}:[pi]:?{user}:*"),
            [Fence { of: Erased::Resource(resource), .. }] => {
                let shard = self.shards.name_of(self.shards.of(*resource));
                format!("{prefix}{{{shard}}}:[pi]:{}*:{}*", resource.kind.letter(), resource.id)
            }
            _ => format!("{prefix}{{s*}}:[pi]:*"),
        }
    }

    /// Whose pair or answer this is, and in which shard; none if it is neither.
    pub(crate) fn place_of(&self, key: &str) -> Option<(ShardId, Pair)> {
        let (shard, name) = self.shard_of(key)?;
        let (name, is_answer) = match name.strip_prefix("p:") {
            Some(name) => (name, false),
            None => (name.strip_prefix("i:")?, true),
        };
        let kind = ResourceType::ALL.into_iter().find(|kind| name.starts_with(kind.letter()))?;
        let (user, rest) = name.strip_prefix(kind.letter())?.split_once(':')?;
        let id = if is_answer { rest.split_once(':')?.0 } else { rest };
        Some((shard, Pair::new(user.parse().ok()?, kind, id.parse().ok()?).ok()?))
    }

    /// Which of our shards this key is of, and what follows its tag.
    pub(crate) fn shard_of<'a>(&self, key: &'a str) -> Option<(ShardId, &'a str)> {
        let (tag, name) = key.strip_prefix(&self.prefix)?.strip_prefix('{')?.split_once("}:")?;
        let number = tag.strip_prefix('s')?.split('.').next()?.parse().ok()?;
        let shard = Some(ShardId(number)).filter(|_| number < self.shards.get())?;
        (self.shards.name_of(shard).to_string() == tag).then_some((shard, name))
    }

    /// Where the clock of a shard is kept while it is closed and may be opened again.
    pub(crate) fn closed_clock(&self, shard: ShardId) -> String {
        self.of_shard(shard, "ot")
    }

    /// Pattern of all keys of shards, ours and those of other numbers.
    pub(crate) fn any_of_shards(&self) -> String {
        self.escaped_prefix() + "{s*}:*"
    }

    /// The shard that keeps the fences.
    pub(crate) const FENCES: ShardId = ShardId(0);

    /// Fences of erased users.
    pub(crate) fn fences(&self) -> String {
        self.of_shard(Self::FENCES, "e")
    }

    /// Marks of deleted resources of a shard.
    pub fn deleted(&self, shard: ShardId) -> String {
        self.of_shard(shard, "x")
    }

    /// The field of a resource among the [marks](Self::deleted): what its counter's name ends with.
    pub(crate) fn mark_of(resource: Resource) -> String {
        format!("{}{}", resource.kind.letter(), resource.id)
    }

    /// The resource of such a field; none if it is somebody else's.
    pub(crate) fn marked(field: &str) -> Option<Resource> {
        let kind = ResourceType::ALL.into_iter().find(|kind| field.starts_with(kind.letter()))?;
        let resource = Resource::new(kind, field[1..].parse().ok()?).ok()?;
        (Self::mark_of(resource) == field).then_some(resource)
    }

    /// Whose key this is; none if it is not the key of a pair.
    pub(crate) fn pair_of(&self, key: &str) -> Option<Pair> {
        let (_, name) = key.strip_prefix(&self.prefix)?.split_once(":p:")?;
        let kind = ResourceType::ALL.into_iter().find(|kind| name.starts_with(kind.letter()))?;
        let (user, id) = name[1..].split_once(':')?;
        let pair = Pair::new(user.parse().ok()?, kind, id.parse().ok()?).ok()?;
        // Whatever else looks like one, such as a key of data with more shards.
        (self.pair(pair) == key).then_some(pair)
    }

    /// A pair under the name that it had with a former number of shards.
    pub(crate) fn pair_of_before(&self, key: &str) -> Option<Pair> {
        let (tag, name) = key.strip_prefix(&self.prefix)?.strip_prefix("{s")?.split_once("}:p:")?;
        let (shard, epoch) = tag.split_once('.').unwrap_or((tag, "0"));
        if shard.parse::<u16>().is_err() || epoch.parse::<u16>().ok()? >= self.shards.epoch() {
            return None;
        }
        let kind = ResourceType::ALL.into_iter().find(|kind| name.starts_with(kind.letter()))?;
        let (user, id) = name[1..].split_once(':')?;
        Pair::new(user.parse().ok()?, kind, id.parse().ok()?).ok()
    }

    pub(crate) fn idempotency(&self, pair: Pair, key_of_caller: &str) -> String {
        let mut key = self.start(self.shards.of(pair.resource), 64 + key_of_caller.len());
        let _ = write!(key, "i:{}{}:{}:{key_of_caller}", pair.resource.kind.letter(), pair.user, pair.resource.id);
        key
    }

    pub(crate) fn user_limit(&self, user: UserId) -> String {
        format!("{}r:{user}", self.prefix)
    }

    pub(crate) fn lease(&self, name: &str) -> (String, String) {
        (format!("{}{{l:{name}}}:o", self.prefix), format!("{}{{l:{name}}}:t", self.prefix))
    }

    /// Stream, hash and string of a probe, beside the keys of a shard.
    pub(crate) fn probe(&self, shard: ShardId) -> [String; 3] {
        ["hj", "ht", "h"].map(|name| self.of_shard(shard, name))
    }

    /// What the last probe found that a user of Redis made, beside this shard.
    pub(crate) fn word(&self, shard: ShardId, user: &str) -> String {
        self.of_shard(shard, &format!("hv:{user}"))
    }

    /// Written before replicas are asked what they have.
    pub(crate) fn touched(&self, shard: ShardId) -> String {
        self.of_shard(shard, "hw")
    }

    pub(crate) fn meta(&self) -> String {
        format!("{}meta", self.prefix)
    }

    fn start(&self, shard: ShardId, capacity: usize) -> String {
        let mut key = String::with_capacity(self.prefix.len() + capacity);
        let _ = write!(key, "{}{{{}}}:", self.prefix, self.shards.name_of(shard));
        key
    }

    fn of_shard(&self, shard: ShardId, name: &str) -> String {
        self.start(shard, 16) + name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_pair_and_no_other_key_does() {
        let keys = Keys::new("a*b:", ShardCount::new(16).unwrap());
        for pair in
            [Pair::new(1, ResourceType::Video, 2).unwrap(), Pair::new(i64::MAX, ResourceType::Comment, 9).unwrap()]
        {
            let key = keys.pair(pair);
            assert_eq!(keys.pair_of(&key), Some(pair), "{key}");
            assert_eq!(keys.pair_of(&keys.counter(pair.resource)), None);
            assert_eq!(keys.pair_of(&keys.idempotency(pair, ":p:v1:2")), None);
            assert_eq!(keys.pair_of(&key.replace("{s", "{s9")), None);
            assert_eq!(keys.pair_of(&key[1..]), None);
        }
        assert_eq!(keys.any_pair(), r"a\*b:{s*}:p:*");
    }

    #[test]
    fn what_is_a_users_or_a_resources_is_told_from_what_is_not() {
        let keys = Keys::new("a:", ShardCount::new(16).unwrap());
        let pair = |user, id| Pair::new(user, ResourceType::Comment, id).unwrap();
        let user = |id| Erased::User(pair(id, 1).user);
        let comment = |id| Erased::Resource(pair(1, id).resource);
        let pair = pair(7, 77);
        let shard = ShardCount::new(16).unwrap().of(pair.resource);
        let fence = |of| Fence { of, up_to: domain::Version(1) };
        assert_eq!(keys.any_of(&[fence(user(7))]), "a:{s*}:[pi]:?7:*");
        assert_eq!(keys.any_of(&[fence(comment(77))]), format!("a:{{s{shard}}}:[pi]:c*:77*"));
        assert_eq!(keys.any_of(&[fence(user(7)), fence(comment(77))]), "a:{s*}:[pi]:*");
        for key in [keys.pair(pair), keys.idempotency(pair, "{s9}:p:v8:1")] {
            assert_eq!(keys.place_of(&key), Some((shard, pair)), "{key}");
        }
        for key in [&keys.counter(pair.resource), "a:{s99}:p:v7:1", "a:{s9}:p:v7", "a:{s9}:i:v7:1", "a:{s09}:p:v7:1"] {
            assert_eq!(keys.place_of(key), None, "{key}");
        }
    }

    #[test]
    fn a_pair_under_its_name_of_before_is_known_by_it() {
        let before = ShardCount::new(16).unwrap();
        let after = before.resharded_to(64).unwrap();
        let keys = |shards| Keys::new("a:", shards);
        let pair = Pair::new(7, ResourceType::Video, 77).unwrap();
        let later = keys(after.resharded_to(16).unwrap());
        assert_eq!(later.pair_of_before(&keys(before).pair(pair)), Some(pair));
        assert_eq!(later.pair_of_before(&keys(after).pair(pair)), Some(pair));
        assert_eq!(keys(after).pair_of_before(&keys(after).pair(pair)), None);
        assert_eq!(keys(before).pair_of_before(&keys(after).pair(pair)), None);
        for other in
            ["a:{s3}:c:v77", "a:{s3}:p:v7", "a:{x3}:p:v7:77", "a:{s3.x}:p:v7:77", "b:{s3}:p:v7:77", "a:{s3}:p:"]
        {
            assert_eq!(later.pair_of_before(other), None, "{other}");
        }
    }

    #[test]
    fn keys_of_another_number_of_shards_are_not_ours() {
        let before = ShardCount::new(16).unwrap();
        let after = before.resharded_to(16).unwrap();
        let (old, new) = (Keys::new("a:", before), Keys::new("a:", after));
        let pair = Pair::new(7, ResourceType::Video, 77).unwrap();
        assert_eq!(new.journal(ShardId(3)), "a:{s3.1}:j");
        for (ours, other) in [(&old, &new), (&new, &old)] {
            for key in [ours.pair(pair), ours.idempotency(pair, "k")] {
                assert_eq!(ours.place_of(&key), Some((before.of(pair.resource), pair)), "{key}");
                assert_eq!((other.place_of(&key), other.pair_of(&key)), (None, None), "{key}");
            }
        }
    }
}
