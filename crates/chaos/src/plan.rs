//! Which faults come when: decided by the seed alone.

use crate::kinds::{Clock, Lease, Loss, Shape};
pub(crate) use crate::kinds::{EACH, Fault, NodeId, Store};
use crate::random::Random;
use crate::redis::SHARDS;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);
/// Of a stopped process, of a slow disk, of somebody else's locks and of a lease holder without one store.
const STOP: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const SYNC: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
const LOCK: (Duration, Duration) = (SHORTEST, Duration::from_secs(6));
const HOLDER: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(10));
/// A process that was stopped runs for so long before it is stopped again.
const BETWEEN_STOPS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// Overlapping faults begin within this time.
const SPREAD: Duration = Duration::from_millis(1500);
/// Faults at once.
const MOST_AT_ONCE: usize = 4;

/// Seconds. Versions are dated at most a minute ahead, and the keys of callers live for a day: a step of hours tests the
/// first promise and does not end the second by its definition.
const STEPS: [i64; 6] = [-7_200, -30, -2, 2, 30, 7_200];

/// A fault of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) fault: Fault,
    /// From the beginning of the round.
    pub(crate) after: Duration,
    pub(crate) lasts: Duration,
    /// A stop comes once more: after so long, for so long.
    pub(crate) again: Option<(Duration, Duration)>,
}

/// Endless rounds of faults.
pub(crate) struct Plan {
    random: Random,
    only: Vec<String>,
    /// Whether clocks can be set and disks made slow.
    preload: bool,
    /// What the stores are: each has faults of its own.
    shape: Shape,
    /// Kinds still to come before any comes again.
    deck: Vec<Fault>,
}

impl Plan {
    pub(crate) fn new(seed: u64, only: &[String], preload: bool) -> Self {
        Self { random: Random::new(seed), only: only.to_vec(), preload, shape: Shape::Single, deck: Vec::new() }
    }

    /// Of stores that are more than one each.
    pub(crate) fn of(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// The next fault, alone.
    pub(crate) fn single(&mut self) -> Option<Step> {
        let fault = self.draw()?;
        Some(self.step(fault, Duration::ZERO))
    }

    /// Two to four faults on different targets.
    pub(crate) fn several(&mut self) -> Vec<Step> {
        let count = 2 + self.random.below(MOST_AT_ONCE - 1);
        let mut round: Vec<Step> = Vec::new();
        let mut taken = 0;
        let mut skipped = Vec::new();
        for _ in 0..80 {
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
            round.push(self.step(fault, after));
        }
        self.deck.append(&mut skipped);
        round
    }

    fn step(&mut self, fault: Fault, after: Duration) -> Step {
        let random = &mut self.random;
        let lasts = match fault {
            _ if fault.is_stop() => random.log_uniform(STOP),
            Fault::LockRows => random.log_uniform(LOCK),
            Fault::CutHolder(..) => random.log_uniform(HOLDER),
            _ => random.duration(SHORTEST, LONGEST),
        };
        let twice = fault.is_stop() && random.below(3) == 0;
        let again = twice.then(|| (random.log_uniform(BETWEEN_STOPS), random.log_uniform(STOP)));
        Step { fault, after, lasts, again }
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
        let mut faults = match self.shape {
            Shape::Single => self.faults_of_servers(),
            Shape::Groups => self.faults_of_groups(),
            Shape::Cluster => self.faults_of_clusters(),
        };
        let wanted = |fault: &Fault| {
            self.only.is_empty() || self.only.iter().any(|name| fault.to_string().contains(name.as_str()))
        };
        faults.retain(|fault| wanted(fault) && (self.preload || !fault.needs_preload()));
        faults
    }

    /// Of groups, and of the processes and links beside them.
    fn faults_of_groups(&mut self) -> Vec<Fault> {
        let random = &mut self.random;
        let behind = |random: &mut Random, longest| random.duration(Duration::ZERO, Duration::from_secs(longest));
        let mut faults = vec![
            Fault::Switch(Store::Redis),
            Fault::FailOver(Store::Redis, behind(random, 1)),
            Fault::SplitRedis,
            Fault::Switch(Store::MariaDb),
            Fault::FailOver(Store::MariaDb, behind(random, 10)),
            Fault::LagDatabase,
            Fault::KillBrokerNode,
            Fault::MinorityBroker,
            Fault::AlarmBroker,
        ];
        for kind in 0..NodeId::all().count() / EACH {
            faults.push(Fault::KillNode(NodeId(kind * EACH + random.below(EACH))));
        }
        for store in Store::ALL {
            faults.push(Fault::CutLink(NodeId(random.below(2 * EACH)), store));
        }
        faults
    }

    /// Of a Redis Cluster and the stores beside it. No link fails: clients go where the nodes say that they are.
    fn faults_of_clusters(&mut self) -> Vec<Fault> {
        let random = &mut self.random;
        let shard = |random: &mut Random| u16::try_from(random.below(SHARDS.into())).unwrap_or_default();
        let mut faults = vec![Fault::KillBrokerNode, Fault::LoseHalf(shard(random))];
        for behind in [Duration::ZERO, random.duration(SHORTEST, Duration::from_secs(3))] {
            let empty = random.below(2) == 0;
            faults.push(Fault::LosePrimary(Loss { shard: shard(random), behind, empty }));
        }
        for keys in [1, 50] {
            faults.push(Fault::MoveSlot(shard(random), keys));
        }
        for kind in 0..NodeId::all().count() / EACH {
            faults.push(Fault::KillNode(NodeId(kind * EACH + random.below(EACH))));
        }
        faults
    }

    fn faults_of_servers(&mut self) -> Vec<Fault> {
        let random = &mut self.random;
        let mut faults = vec![
            Fault::LockRows,
            Fault::FillQueue,
            Fault::FlushRedis,
            Fault::PurgeQueue,
            Fault::DeleteQueue,
            Fault::WipeBroker,
        ];
        for kind in 0..NodeId::all().count() / EACH {
            let mut node = || NodeId(kind * EACH + random.below(EACH));
            faults.extend([Fault::KillNode(node()), Fault::PauseNode(node())]);
            let (node, seconds) = (node(), STEPS[random.below(STEPS.len())]);
            // A server begins with its wrong clock: while it runs it knows better.
            faults.push(match node.is_server() {
                true => Fault::SkewServer(node, seconds),
                false => Fault::StepClock(Clock::Node(node), seconds),
            });
        }
        faults.push(Fault::StepClock(Clock::Redis, STEPS[random.below(STEPS.len())]));
        for lease in Lease::ALL {
            // The checker has nothing to do with the broker.
            let stores = if lease == Lease::Rescue { 3 } else { 2 };
            faults.push(Fault::CutHolder(lease, Store::ALL[random.below(stores)]));
        }
        for store in Store::ALL {
            faults.extend([Fault::KillStore(store), Fault::PauseStore(store), Fault::RestartStore(store)]);
            faults.push(Fault::SlowSync(store, random.log_uniform(SYNC)));
            // The checker has no link to the broker.
            let nodes = if store == Store::RabbitMq { 2 * EACH } else { 3 * EACH };
            let mut node = || NodeId(random.below(nodes));
            faults.extend([Fault::CutLink(node(), store), Fault::FreezeLink(node(), store)]);
            faults.extend([Fault::HoldRequests(node(), store), Fault::HoldAnswers(node(), store)]);
            let slow = node();
            let delay = random.duration(Duration::from_millis(20), Duration::from_millis(400));
            faults.push(Fault::SlowLink(slow, store, delay));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

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
        let distinct: BTreeSet<_> = faults.iter().collect();
        assert_eq!(distinct.len(), count, "{faults:?}");
    }

    #[test]
    fn the_kinds_are_these() {
        let kinds: BTreeSet<&str> = Plan::new(1, &[], true).all().into_iter().map(Fault::kind).collect();
        let wanted = "cut_holder cut_link delete_queue fill_queue flush_redis freeze_link hold_answers hold_requests \
            kill_checker kill_consumer kill_mariadb kill_rabbitmq kill_redis kill_server lock_rows pause_checker \
            pause_consumer pause_mariadb pause_rabbitmq pause_redis pause_server purge_queue restart_mariadb \
            restart_rabbitmq restart_redis skew_server slow_link slow_sync_mariadb slow_sync_rabbitmq slow_sync_redis \
            step_clock_checker step_clock_consumer step_clock_redis wipe_broker";
        assert_eq!(kinds, wanted.split_whitespace().collect());
    }

    #[test]
    fn groups_have_kinds_of_their_own() {
        let kinds: BTreeSet<&str> =
            Plan::new(1, &[], false).of(Shape::Groups).all().into_iter().map(Fault::kind).collect();
        let wanted = "alarm_broker cut_link failover_database failover_redis kill_broker_node kill_checker kill_consumer \
            kill_server lag_database minority_broker split_redis switch_database switch_redis";
        assert_eq!(kinds, wanted.split_whitespace().collect());
        // Nobody dies who remembers what a cache loses.
        let lost = Fault::FailOver(Store::Redis, Duration::ZERO);
        assert_ne!(lost.targets() & Fault::KillNode(NodeId(0)).targets(), 0);
        // Nobody writes around cache or broker what only a database has that goes back.
        let back = Fault::FailOver(Store::MariaDb, Duration::ZERO);
        for other in [Fault::Switch(Store::Redis), Fault::CutLink(NodeId(0), Store::Redis), Fault::AlarmBroker] {
            assert_ne!(back.targets() & other.targets(), 0, "{other}");
        }
    }

    #[test]
    fn clusters_have_kinds_of_their_own() {
        let faults = Plan::new(1, &[], false).of(Shape::Cluster).all();
        let kinds: BTreeSet<&str> = faults.iter().map(|fault| fault.kind()).collect();
        let wanted = "failover_redis kill_broker_node kill_checker kill_consumer kill_server lose_half move_slot";
        assert_eq!(kinds, wanted.split_whitespace().collect());
        // One primary at a time, and who remembers what it had lives meanwhile.
        for fault in faults.iter().filter(|fault| matches!(fault, Fault::LosePrimary(_))) {
            for other in [Fault::MoveSlot(1, 1), Fault::LoseHalf(1), Fault::KillNode(NodeId(0))] {
                assert_ne!(fault.targets() & other.targets(), 0, "{fault} and {other}");
            }
            assert_eq!(fault.targets() & Fault::KillBrokerNode.targets(), 0);
        }
    }

    #[test]
    fn without_the_library_no_clock_is_set_and_no_disk_slow() {
        let faults = Plan::new(1, &[], false).all();
        assert!(faults.iter().all(|fault| !fault.needs_preload()), "{faults:?}");
        assert!(Plan::new(1, &[], true).all().len() > faults.len());
    }

    #[test]
    fn faults_at_once_have_different_targets() {
        for round in (0..20).flat_map(|seed| rounds(seed).into_iter().skip(30)) {
            assert!((2..=MOST_AT_ONCE).contains(&round.len()), "{round:?}");
            let mut taken = 0;
            for step in round {
                assert_eq!(taken & step.fault.targets(), 0, "{step:?}");
                taken |= step.fault.targets();
            }
        }
    }

    #[test]
    fn targets_of_different_things_are_different_bits() {
        let mut taken = 0;
        let single = NodeId::all()
            .flat_map(|node| {
                let links = Store::ALL.map(|store| Fault::CutLink(node, store));
                links.into_iter().chain([Fault::KillNode(node)])
            })
            .chain(Store::ALL.map(Fault::KillStore));
        for fault in single {
            assert_eq!(taken & fault.targets(), 0, "{fault}");
            taken |= fault.targets();
        }
        // One wrong clock at a time, and none with a flush; the way to Redis is free while its clock is wrong.
        let step = Fault::StepClock(Clock::Redis, 2);
        for other in [Fault::SkewServer(NodeId(0), 2), Fault::FlushRedis, Fault::CutLink(NodeId(1), Store::Redis)] {
            assert_ne!(step.targets() & other.targets(), 0, "{other}");
        }
        assert_eq!(step.targets() & Fault::PauseNode(NodeId(0)).targets(), 0);
    }

    #[test]
    fn stops_are_short_and_long_and_some_come_twice() {
        let stops: Vec<Step> = (0..40).flat_map(rounds).flatten().filter(|step| step.fault.is_stop()).collect();
        let count = |fits: &dyn Fn(&Step) -> bool| stops.iter().filter(|step| fits(step)).count();
        assert!(stops.iter().all(|step| (STOP.0..=STOP.1).contains(&step.lasts)), "{stops:?}");
        assert!(count(&|step| step.lasts < Duration::from_millis(500)) * 5 > stops.len());
        assert!(count(&|step| step.lasts > Duration::from_secs(3)) * 8 > stops.len());
        assert!(count(&|step| step.again.is_some()) * 5 > stops.len());
        assert!(rounds(1).iter().flatten().all(|step| step.again.is_none() || step.fault.is_stop()));
    }

    #[test]
    fn only_leaves_what_it_names() {
        let mut plan = Plan::new(1, &["flush".to_owned()], true);
        assert_eq!(plan.single().map(|step| step.fault), Some(Fault::FlushRedis));
        assert_eq!(plan.several().len(), 1);
        assert!(Plan::new(1, &["nothing".to_owned()], true).single().is_none());
    }
}
