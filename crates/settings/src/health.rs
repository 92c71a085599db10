//! Stores as parts of a process's health: what their circuits say, and how likes get on.

use event_bus::{BusConfig, LogState};
use service_runtime::{Criticality, HealthRegistry, LastError, PartState, Status};
use std::sync::Arc;
use std::time::Instant;
use sync_engine::Stores;
use sync_engine::clock::wall_clock;
use sync_engine::stores::circuit_breaker::Circuit;
use sync_engine::stores::flow::Flow;
use sync_engine::stores::standing::TroubleKind;

/// A store, as health shows it.
#[derive(Debug, Clone, Copy)]
pub struct StorePart<'a> {
    /// Name of the part.
    pub name: &'a str,
    /// What the process is without it.
    pub criticality: Criticality,
    /// Open while the store is unreachable.
    pub circuit: &'a Arc<Circuit>,
    /// What happens until it is back, in a few words; may be empty.
    pub meanwhile: &'static str,
}

/// Registers stores: a part is down while its circuit is open.
pub fn register<'a>(health: &HealthRegistry, parts: impl IntoIterator<Item = StorePart<'a>>) {
    for StorePart { name, criticality, circuit, meanwhile } in parts {
        let circuit = Arc::clone(circuit);
        health.probe(name, criticality, move || {
            let state = state(&circuit, meanwhile);
            async move { state }
        });
    }
}

/// Registers what the stores say of clocks, and of the cache's disk, memory and replicas: a process does its work with any of them wrong.
pub fn register_surroundings(health: &HealthRegistry, stores: &Stores) {
    let clocks = Arc::clone(&stores.clocks);
    health.probe("clocks", Criticality::Optional, move || {
        let wrong = clocks.wrong();
        async move { warned(wrong) }
    });
    let memory = Arc::clone(&stores.cache_disk);
    health.probe("redis_memory", Criticality::Optional, move || {
        let full = memory.fullness();
        async move { warned(full) }
    });
    let replicas = Arc::clone(&stores.cache_disk);
    health.probe("redis_replicas", Criticality::Optional, move || {
        let alone = replicas.alone(Instant::now());
        async move { warned(alone) }
    });
    let shards = Arc::clone(&stores.shard_circuits);
    health.probe("redis_shards", Criticality::Optional, move || {
        let away = shards.trouble();
        async move { warned(away) }
    });
    let disk = Arc::clone(&stores.cache_disk);
    health.probe("redis_disk", Criticality::Optional, move || {
        let trouble = disk.trouble(Instant::now()).map(str::to_owned);
        async move { warned(trouble) }
    });
}

fn warned(trouble: Option<String>) -> PartState {
    trouble.map_or_else(|| PartState::new(Status::Ok, ""), |trouble| PartState::new(Status::Degraded, trouble))
}

/// Registers what is wrong with accepted likes, a part for each kind: every process says the same, because it stands in the
/// stores.
pub fn register_standing(health: &HealthRegistry, stores: &Stores) {
    for kind in TroubleKind::ALL {
        let standings = Arc::clone(&stores.standings);
        health.probe(kind.name(), Criticality::Optional, move || {
            let (now, wall) = (Instant::now(), wall_clock());
            let state = match standings.trouble(now, wall, kind) {
                Some(trouble) => PartState::new(Status::Degraded, trouble),
                None => PartState::new(Status::Ok, standings.calm(now, wall, kind).unwrap_or_default()),
            };
            async move { state }
        });
    }
}

/// Registers how likes get on: the part is degraded while nobody consumes, or a bound turns likes away, although every store
/// answers.
pub fn register_flow(health: &HealthRegistry, stores: &Stores) {
    let flow = Arc::clone(&stores.flow);
    health.probe("flow", Criticality::Optional, move || {
        let state = flow_state(&flow);
        async move { state }
    });
}

/// Registers the redo log, where there is to be one: likes do not need it, and without it a database that comes back from a copy
/// lacks what came after.
pub fn register_redo_log(health: &HealthRegistry, bus: &BusConfig) {
    if !bus.log.enabled {
        return;
    }
    let bus = bus.clone();
    health.probe("redo_log", Criticality::Optional, move || {
        let state = redo_log_state(bus.log_state());
        async move { state }
    });
}

/// Registers whether others hear of what is committed, where they are to: likes do not need it, and what is not published waits.
pub fn register_changes(health: &HealthRegistry, stores: &Stores, bus: &BusConfig) {
    if !bus.changes.enabled {
        return;
    }
    let changes = Arc::clone(&stores.changes);
    health.probe("changes", Criticality::Optional, move || {
        let trouble = changes.trouble();
        async move { warned(trouble) }
    });
}

fn redo_log_state(state: LogState) -> PartState {
    match state {
        LogState::Up | LogState::Off | LogState::Unknown => PartState::new(Status::Ok, ""),
        LogState::Down(reason) => PartState::new(Status::Degraded, format!("likes go on without it: {reason}")),
        LogState::Absent(reason) => PartState::new(
            Status::Degraded,
            format!("this broker has none for us ({reason}); who needs none sets rabbitmq.log.enabled: false"),
        ),
    }
}

fn flow_state(flow: &Flow) -> PartState {
    match flow.trouble() {
        None => PartState::new(Status::Ok, ""),
        Some(trouble) => PartState::new(Status::Degraded, trouble),
    }
}

fn state(circuit: &Circuit, meanwhile: &str) -> PartState {
    let state = match (circuit.is_open(), meanwhile) {
        (false, _) => PartState::new(Status::Ok, ""),
        (true, "") => PartState::new(Status::Down, "unreachable"),
        (true, meanwhile) => PartState::new(Status::Down, format!("unreachable; {meanwhile}")),
    };
    let last = circuit.last_error();
    state.with_last_error(last.map(|last| LastError { at: last.at.to_rfc3339(), error: last.text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_circuit_is_a_part_that_is_down_and_says_why() {
        let circuit = Circuit::new("cache", 1);
        assert_eq!(state(&circuit, "x"), PartState::new(Status::Ok, ""));
        circuit.trip(&"refused");
        let down = state(&circuit, "");
        assert_eq!((down.status, down.detail.as_str()), (Status::Down, "unreachable"));
        assert_eq!(down.last_error.map(|last| last.error).as_deref(), Some("refused"));
        assert_eq!(state(&circuit, "likes wait").detail, "unreachable; likes wait");
        // Well again, it still says what was.
        circuit.close();
        let well = state(&circuit, "");
        assert_eq!((well.status, well.last_error.is_some()), (Status::Ok, true));
    }

    #[test]
    fn a_log_that_is_not_there_is_no_reason_to_be_down() {
        assert_eq!(redo_log_state(LogState::Up), PartState::new(Status::Ok, ""));
        for (state, says) in
            [(LogState::Down("silent".into()), "silent"), (LogState::Absent("no".into()), "log.enabled")]
        {
            let part = redo_log_state(state);
            assert!(part.status == Status::Degraded && part.detail.contains(says), "{part:?}");
        }
    }

    #[test]
    fn likes_that_do_not_arrive_are_a_part_of_their_own() {
        let flow = Flow::default();
        assert_eq!(flow_state(&flow).status, Status::Ok);
        flow.saw_consumers(Some(0));
        assert_eq!(flow_state(&flow), PartState::new(Status::Degraded, "nobody consumes the queue"));
    }
}
