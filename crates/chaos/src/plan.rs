//! Which faults come when: decided by the seed alone.

use crate::random::Random;
use std::fmt;
use std::time::Duration;

/// Numbers of servers and of consumers.
pub(crate) const EACH: usize = 2;

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);
/// Overlapping faults begin within this time.
const SPREAD: Duration = Duration::from_millis(1500);
/// Faults at once.
const MOST_AT_ONCE: usize = 4;

/// A process of ours: servers first, then consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(pub(crate) usize);

impl NodeId {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..2 * EACH).map(Self)
    }

    pub(crate) fn is_server(self) -> bool {
        self.0 < EACH
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_server() { "server" } else { "consumer" }, self.0 % EACH + 1)
    }
}

/// A store; the number of a link of every node too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Redis,
    MariaDb,
    RabbitMq,
}

impl Store {
    pub(crate) const ALL: [Self; 3] = [Self::Redis, Self::MariaDb, Self::RabbitMq];

    const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::MariaDb => "mariadb",
            Self::RabbitMq => "rabbitmq",
        }
    }
}

/// What goes wrong; undone when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    KillNode(NodeId),
    PauseNode(NodeId),
    /// Started again with its clock wrong by so many seconds.
    SkewServer(NodeId, i64),
    KillStore(Store),
    PauseStore(Store),
    /// Stopped in order and started again on its data.
    RestartStore(Store),
    CutLink(NodeId, Store),
    /// Connections stay, nothing passes.
    FreezeLink(NodeId, Store),
    SlowLink(NodeId, Store, Duration),
    /// Nobody consumes, so that the queue reaches its limit.
    FillQueue,
    FlushRedis,
    PurgeQueue,
    DeleteQueue,
    WipeBroker,
}

impl Fault {
    /// Name without its target.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::KillNode(node) if node.0 < EACH => "kill_server",
            Self::KillNode(_) => "kill_consumer",
            Self::PauseNode(node) if node.0 < EACH => "pause_server",
            Self::PauseNode(_) => "pause_consumer",
            Self::SkewServer(..) => "skew_server",
            Self::KillStore(Store::Redis) => "kill_redis",
            Self::KillStore(Store::MariaDb) => "kill_mariadb",
            Self::KillStore(Store::RabbitMq) => "kill_rabbitmq",
            Self::PauseStore(Store::Redis) => "pause_redis",
            Self::PauseStore(Store::MariaDb) => "pause_mariadb",
            Self::PauseStore(Store::RabbitMq) => "pause_rabbitmq",
            Self::RestartStore(Store::Redis) => "restart_redis",
            Self::RestartStore(Store::MariaDb) => "restart_mariadb",
            Self::RestartStore(Store::RabbitMq) => "restart_rabbitmq",
            Self::CutLink(..) => "cut_link",
            Self::FreezeLink(..) => "freeze_link",
            Self::SlowLink(..) => "slow_link",
            Self::FillQueue => "fill_queue",
            Self::FlushRedis => "flush_redis",
            Self::PurgeQueue => "purge_queue",
            Self::DeleteQueue => "delete_queue",
            Self::WipeBroker => "wipe_broker",
        }
    }

    /// What it uses alone, as a set of bits: 4 nodes, 3 stores, 12 links.
    const fn targets(self) -> u32 {
        match self {
            Self::KillNode(node) | Self::PauseNode(node) | Self::SkewServer(node, _) => 1 << node.0,
            Self::KillStore(s) | Self::PauseStore(s) | Self::RestartStore(s) => store_bit(s),
            Self::CutLink(node, s) | Self::FreezeLink(node, s) | Self::SlowLink(node, s, _) => {
                1 << (12 + node.0 as u32 * 3 + s as u32)
            }
            Self::FillQueue => 0b1100,
            Self::FlushRedis => store_bit(Store::Redis),
            Self::PurgeQueue | Self::DeleteQueue => 0b1100 | store_bit(Store::RabbitMq),
            Self::WipeBroker => store_bit(Store::RabbitMq),
        }
    }

    /// Whether an accepted event can, because of it, be in the journal alone: a server's memory goes, the broker loses
    /// what was published, or publishing and the direct way into the database fail. Together with a flush of Redis two
    /// stores have then lost it at once, which no protocol survives.
    pub(crate) fn leaves_only_the_journal(self) -> bool {
        match self {
            Self::KillNode(node) => node.is_server(),
            Self::SkewServer(..) | Self::FillQueue => true,
            Self::PurgeQueue | Self::DeleteQueue | Self::WipeBroker => true,
            Self::KillStore(store) | Self::PauseStore(store) | Self::RestartStore(store) => store != Store::Redis,
            Self::CutLink(node, store) | Self::FreezeLink(node, store) | Self::SlowLink(node, store, _) => {
                node.is_server() && store != Store::Redis
            }
            Self::PauseNode(_) | Self::FlushRedis => false,
        }
    }

    /// Whether the broker must have had its queue for a while: RabbitMQ 3.10, when killed within about half a second
    /// after a queue was declared, comes back with the queue's name and without its storage.
    pub(crate) const fn needs_settled_broker(self) -> bool {
        matches!(self, Self::KillStore(Store::RabbitMq) | Self::RestartStore(Store::RabbitMq) | Self::WipeBroker)
    }
}

const fn store_bit(store: Store) -> u32 {
    1 << (8 + store as u32)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::KillNode(node) | Self::PauseNode(node) => write!(f, " {node}"),
            Self::SkewServer(node, seconds) => write!(f, " {node} {seconds:+} s"),
            Self::CutLink(node, store) | Self::FreezeLink(node, store) => write!(f, " {node}-{}", store.name()),
            Self::SlowLink(node, store, delay) => write!(f, " {node}-{} {delay:?}", store.name()),
            _ => Ok(()),
        }
    }
}

/// A fault of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) fault: Fault,
    /// From the beginning of the round.
    pub(crate) after: Duration,
    pub(crate) lasts: Duration,
}

/// Endless rounds of faults.
pub(crate) struct Plan {
    random: Random,
    only: Vec<String>,
    /// Whether a server's clock can be set.
    skew: bool,
    /// Kinds still to come before any comes again.
    deck: Vec<Fault>,
}

impl Plan {
    pub(crate) fn new(seed: u64, only: &[String], skew: bool) -> Self {
        Self { random: Random::new(seed), only: only.to_vec(), skew, deck: Vec::new() }
    }

    /// The next fault, alone.
    pub(crate) fn single(&mut self) -> Option<Step> {
        let fault = self.draw()?;
        Some(Step { fault, after: Duration::ZERO, lasts: self.random.duration(SHORTEST, LONGEST) })
    }

    /// Two to four faults on different targets.
    pub(crate) fn several(&mut self) -> Vec<Step> {
        let count = 2 + self.random.below(MOST_AT_ONCE - 1);
        let mut round: Vec<Step> = Vec::new();
        let mut taken = 0;
        let mut skipped = Vec::new();
        for _ in 0..40 {
            if round.len() == count {
                break;
            }
            if self.deck.is_empty() {
                // The new deck has these, too.
                skipped.clear();
            }
            let Some(fault) = self.draw() else { break };
            if taken & fault.targets() != 0 {
                skipped.push(fault);
                continue;
            }
            taken |= fault.targets();
            let after = self.random.duration(Duration::ZERO, SPREAD);
            round.push(Step { fault, after, lasts: self.random.duration(SHORTEST, LONGEST) });
        }
        self.deck.append(&mut skipped);
        round
    }

    /// From a deck that holds every kind once.
    fn draw(&mut self) -> Option<Fault> {
        if self.deck.is_empty() {
            let mut deck = self.all();
            self.random.shuffle(&mut deck);
            self.deck = deck;
        }
        self.deck.pop()
    }

    fn all(&mut self) -> Vec<Fault> {
        let random = &mut self.random;
        let mut server = || NodeId(random.below(EACH));
        let (killed, paused, skewed) = (server(), server(), server());
        let mut consumer = || NodeId(EACH + random.below(EACH));
        let (killed_consumer, paused_consumer) = (consumer(), consumer());
        let skew = [-7_200, -30, 30, 7_200][random.below(4)];
        let mut faults = vec![
            Fault::KillNode(killed),
            Fault::KillNode(killed_consumer),
            Fault::PauseNode(paused),
            Fault::PauseNode(paused_consumer),
            Fault::FillQueue,
            Fault::FlushRedis,
            Fault::PurgeQueue,
            Fault::DeleteQueue,
            Fault::WipeBroker,
        ];
        if self.skew {
            faults.push(Fault::SkewServer(skewed, skew));
        }
        for store in Store::ALL {
            faults.extend([Fault::KillStore(store), Fault::PauseStore(store), Fault::RestartStore(store)]);
            let mut node = || NodeId(random.below(2 * EACH));
            faults.extend([Fault::CutLink(node(), store), Fault::FreezeLink(node(), store)]);
            let slow = node();
            let delay = random.duration(Duration::from_millis(20), Duration::from_millis(400));
            faults.push(Fault::SlowLink(slow, store, delay));
        }
        let wanted = |fault: &Fault| {
            self.only.is_empty() || self.only.iter().any(|name| fault.to_string().contains(name.as_str()))
        };
        faults.retain(wanted);
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(seed: u64) -> Vec<Vec<Step>> {
        let mut plan = Plan::new(seed, &[], true);
        let mut rounds: Vec<_> = (0..30).map(|_| Vec::from_iter(plan.single())).collect();
        rounds.extend((0..30).map(|_| plan.several()));
        rounds
    }

    #[test]
    fn a_seed_gives_the_same_faults_and_another_seed_others() {
        assert_eq!(rounds(7), rounds(7));
        assert_ne!(rounds(7), rounds(8));
    }

    #[test]
    fn every_kind_comes_before_one_comes_again() {
        let mut plan = Plan::new(1, &[], true);
        let count = plan.all().len();
        let faults: Vec<String> = (0..count).filter_map(|_| plan.single()).map(|step| step.fault.to_string()).collect();
        let kinds: std::collections::BTreeSet<_> = faults.iter().collect();
        assert_eq!(kinds.len(), count, "{faults:?}");
    }

    #[test]
    fn faults_at_once_have_different_targets() {
        for round in rounds(3).iter().skip(30) {
            assert!((2..=MOST_AT_ONCE).contains(&round.len()), "{round:?}");
            let mut taken = 0;
            for step in round {
                assert_eq!(taken & step.fault.targets(), 0, "{round:?}");
                taken |= step.fault.targets();
                assert!((SHORTEST..=LONGEST).contains(&step.lasts));
            }
        }
    }

    #[test]
    fn only_leaves_what_it_names() {
        let mut plan = Plan::new(1, &["flush".to_owned()], true);
        assert_eq!(plan.single().map(|step| step.fault), Some(Fault::FlushRedis));
        assert_eq!(plan.several().len(), 1);
        assert!(Plan::new(1, &["nothing".to_owned()], true).single().is_none());
    }
}
