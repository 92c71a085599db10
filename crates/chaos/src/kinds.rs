//! What can go wrong, and what of the stack each fault needs for itself.

use std::fmt;
use std::time::Duration;

/// Numbers of servers, of consumers and of checkers.
pub(crate) const EACH: usize = 2;

/// A process of ours: servers first, then consumers, then checkers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(pub(crate) usize);

impl NodeId {
    const KINDS: [&str; 3] = ["server", "consumer", "checker"];

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::KINDS.len() * EACH).map(Self)
    }

    /// `server`, `consumer` or `checker`.
    pub(crate) const fn program(self) -> &'static str {
        Self::KINDS[self.0 / EACH]
    }

    /// Whether it is that one of each program, or the other one.
    pub(crate) const fn is_twin(self, number: u16) -> bool {
        self.0 % EACH == number as usize % EACH
    }

    pub(crate) const fn is_server(self) -> bool {
        self.0 < EACH
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.program(), self.0 % EACH + 1)
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

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::MariaDb => "mariadb",
            Self::RabbitMq => "rabbitmq",
        }
    }
}

/// What the stores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Shape {
    /// One of each.
    #[default]
    Single,
    /// Groups behind addresses that move.
    Groups,
    /// A Redis Cluster, and groups whose nodes all are known to the programs.
    Cluster,
}

/// A lease that one process holds at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    /// Of redelivery; servers and consumers compete for it.
    Rescue,
    /// Of the checker that repairs.
    Consistency,
}

impl Lease {
    pub(crate) const ALL: [Self; 2] = [Self::Rescue, Self::Consistency];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rescue => "rescue",
            Self::Consistency => "consistency",
        }
    }
}

/// Whose wall clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Redis,
    Node(NodeId),
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis => f.write_str("redis"),
            Self::Node(node) => node.fmt(f),
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
    /// Set while it runs, by so many seconds.
    StepClock(Clock, i64),
    KillStore(Store),
    PauseStore(Store),
    /// Stopped in order and started again on its data.
    RestartStore(Store),
    /// Each of its fsyncs takes so much longer.
    SlowSync(Store, Duration),
    /// Rows of the likes of the moment are locked by somebody else; the database has no other fault.
    LockRows,
    CutLink(NodeId, Store),
    /// Connections stay, nothing passes.
    FreezeLink(NodeId, Store),
    /// What the node says is kept back.
    HoldRequests(NodeId, Store),
    /// The store does everything, and its answers are kept back.
    HoldAnswers(NodeId, Store),
    SlowLink(NodeId, Store, Duration),
    /// Whoever holds the lease loses that store, and nothing else.
    CutHolder(Lease, Store),
    /// Nobody consumes, so that the queue reaches its limit.
    FillQueue,
    FlushRedis,
    PurgeQueue,
    DeleteQueue,
    WipeBroker,
    /// Of a group: the replica takes over in order.
    Switch(Store),
    /// Of a group: the primary dies with its disk; the replica that takes over is behind by so much.
    FailOver(Store, Duration),
    /// The old primary is one, too, for whoever is connected to it.
    SplitRedis,
    LagDatabase,
    KillBrokerNode,
    MinorityBroker,
    AlarmBroker,
    /// Of a Redis Cluster: the primary of this shard dies, and its replica is elected.
    LosePrimary(Loss),
    /// Of a Redis Cluster: the slot of this shard moves to another primary, so many keys at a time.
    MoveSlot(u16, usize),
    /// One broker, the primary of this shard, the database's replica, and one of each of our programs, all at once.
    LoseHalf(u16),
}

/// How a primary of a Redis Cluster is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loss {
    /// One of its shards.
    pub(crate) shard: u16,
    /// The replica has heard nothing for so long.
    pub(crate) behind: Duration,
    /// It comes back without its data.
    pub(crate) empty: bool,
}

/// Bits of [`Fault::targets`].
const NODES: u64 = 0b11_1111;
const CONSUMERS: u64 = 0b1100;
/// A second wrong clock at the same time is more than anything is promised for.
const CLOCKS: u64 = 1 << 32;

impl Fault {
    /// Name without its target.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::KillNode(node) => ["kill_server", "kill_consumer", "kill_checker"][node.0 / EACH],
            Self::PauseNode(node) => ["pause_server", "pause_consumer", "pause_checker"][node.0 / EACH],
            Self::SkewServer(..) => "skew_server",
            Self::StepClock(Clock::Redis, _) => "step_clock_redis",
            Self::StepClock(Clock::Node(node), _) => {
                ["step_clock_server", "step_clock_consumer", "step_clock_checker"][node.0 / EACH]
            }
            Self::KillStore(store) => ["kill_redis", "kill_mariadb", "kill_rabbitmq"][store as usize],
            Self::PauseStore(store) => ["pause_redis", "pause_mariadb", "pause_rabbitmq"][store as usize],
            Self::RestartStore(store) => ["restart_redis", "restart_mariadb", "restart_rabbitmq"][store as usize],
            Self::SlowSync(store, _) => ["slow_sync_redis", "slow_sync_mariadb", "slow_sync_rabbitmq"][store as usize],
            Self::LockRows => "lock_rows",
            Self::CutLink(..) => "cut_link",
            Self::FreezeLink(..) => "freeze_link",
            Self::HoldRequests(..) => "hold_requests",
            Self::HoldAnswers(..) => "hold_answers",
            Self::SlowLink(..) => "slow_link",
            Self::CutHolder(..) => "cut_holder",
            Self::FillQueue => "fill_queue",
            Self::FlushRedis => "flush_redis",
            Self::PurgeQueue => "purge_queue",
            Self::DeleteQueue => "delete_queue",
            Self::WipeBroker => "wipe_broker",
            Self::Switch(store) => ["switch_redis", "switch_database", "switch_broker"][store as usize],
            Self::FailOver(store, _) => ["failover_redis", "failover_database", "failover_broker"][store as usize],
            Self::SplitRedis => "split_redis",
            Self::LagDatabase => "lag_database",
            Self::KillBrokerNode => "kill_broker_node",
            Self::MinorityBroker => "minority_broker",
            Self::AlarmBroker => "alarm_broker",
            Self::LosePrimary(_) => "failover_redis",
            Self::MoveSlot(..) => "move_slot",
            Self::LoseHalf(_) => "lose_half",
        }
    }

    /// What it uses alone, as a set of bits: nodes, stores, links, clocks.
    pub(crate) const fn targets(self) -> u64 {
        match self {
            Self::KillNode(node) | Self::PauseNode(node) => 1 << node.0,
            Self::SkewServer(node, _) => 1 << node.0 | CLOCKS,
            Self::StepClock(Clock::Node(node), _) => 1 << node.0 | CLOCKS,
            // A call that waits in a socket is judged by that clock, and what is written around Redis is dated by what was
            // last seen of it: the documents say so. So the way to it is free meanwhile.
            Self::StepClock(Clock::Redis, _) => store_bit(Store::Redis) | links_of(Store::Redis) | CLOCKS,
            Self::KillStore(s) | Self::PauseStore(s) | Self::RestartStore(s) | Self::SlowSync(s, _) => store_bit(s),
            Self::LockRows => store_bit(Store::MariaDb),
            Self::CutLink(node, s)
            | Self::FreezeLink(node, s)
            | Self::HoldRequests(node, s)
            | Self::HoldAnswers(node, s)
            | Self::SlowLink(node, s, _) => 1 << link(node.0, s),
            // Who that is shows only when it strikes; and somebody must be left to take over.
            Self::CutHolder(_, store) => {
                NODES | links_of(Store::Redis) | links_of(store) | store_bit(Store::Redis) | store_bit(store)
            }
            Self::FillQueue => CONSUMERS,
            // Versions begin again with the clocks.
            Self::FlushRedis => store_bit(Store::Redis) | CLOCKS,
            Self::PurgeQueue | Self::DeleteQueue => CONSUMERS | store_bit(Store::RabbitMq),
            Self::WipeBroker => store_bit(Store::RabbitMq),
            Self::Switch(store) => store_bit(store) | links_of(store),
            // A like that only the cache's dead primary had is in the memory of the server that answered it, which lives
            // meanwhile. Nor is a clock wrong: versions begin anew.
            Self::FailOver(Store::Redis, _) | Self::SplitRedis | Self::LosePrimary(_) => {
                NODES | store_bit(Store::Redis) | links_of(Store::Redis) | CLOCKS
            }
            // What was written around cache or broker the database alone has, until the broker is back.
            Self::FailOver(store, _) => {
                let others = store_bit(Store::Redis) | links_of(Store::Redis);
                store_bit(store) | links_of(store) | store_bit(Store::RabbitMq) | links_of(Store::RabbitMq) | others
            }
            Self::LagDatabase => store_bit(Store::MariaDb),
            Self::KillBrokerNode | Self::MinorityBroker | Self::AlarmBroker => store_bit(Store::RabbitMq),
            Self::MoveSlot(..) => store_bit(Store::Redis),
            Self::LoseHalf(_) => u64::MAX,
        }
    }

    /// Whether the broker must have had its queue for a while: RabbitMQ 3.10, when killed within about half a second
    /// after a queue was declared, comes back with the queue's name and without its storage.
    pub(crate) const fn needs_settled_broker(self) -> bool {
        matches!(self, Self::KillStore(Store::RabbitMq) | Self::RestartStore(Store::RabbitMq) | Self::WipeBroker)
    }

    /// Whether it needs the library that makes disks slow and clocks wrong.
    pub(crate) const fn needs_preload(self) -> bool {
        matches!(self, Self::SkewServer(..) | Self::StepClock(..) | Self::SlowSync(..))
    }

    /// Whether it stops a process for a moment or for long, perhaps twice in a row.
    pub(crate) const fn is_stop(self) -> bool {
        matches!(self, Self::PauseNode(_) | Self::PauseStore(_))
    }
}

const fn store_bit(store: Store) -> u64 {
    1 << (8 + store as u32)
}

const fn link(node: usize, store: Store) -> u32 {
    12 + node as u32 * 3 + store as u32
}

/// The links of all nodes to a store.
const fn links_of(store: Store) -> u64 {
    let (mut bits, mut node) = (0, 0);
    while node < NODES.count_ones() as usize {
        bits |= 1 << link(node, store);
        node += 1;
    }
    bits
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::KillNode(node) | Self::PauseNode(node) => write!(f, " {node}"),
            Self::SkewServer(node, seconds) => write!(f, " {node} {seconds:+} s"),
            Self::StepClock(clock, seconds) => write!(f, " {clock} {seconds:+} s"),
            Self::SlowSync(_, delay) | Self::FailOver(_, delay) => write!(f, " {delay:?}"),
            Self::CutLink(node, store)
            | Self::FreezeLink(node, store)
            | Self::HoldRequests(node, store)
            | Self::HoldAnswers(node, store) => write!(f, " {node}-{}", store.name()),
            Self::SlowLink(node, store, delay) => write!(f, " {node}-{} {delay:?}", store.name()),
            Self::LosePrimary(Loss { shard, behind, empty }) => {
                write!(f, " of shard {shard} {behind:?}{}", if *empty { ", empty" } else { "" })
            }
            Self::MoveSlot(shard, keys) => write!(f, " of shard {shard}, {keys} keys at a time"),
            Self::LoseHalf(shard) => write!(f, " with shard {shard}"),
            Self::CutHolder(lease, store) => write!(f, " {}-{}", lease.name(), store.name()),
            _ => Ok(()),
        }
    }
}
