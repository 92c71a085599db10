//! Stores as parts of a process's health: what their circuits say.

use service_runtime::{Criticality, HealthRegistry, PartState, Status};
use std::sync::Arc;
use sync_engine::stores::circuit_breaker::Circuit;

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

fn state(circuit: &Circuit, meanwhile: &str) -> PartState {
    match (circuit.is_open(), meanwhile) {
        (false, _) => PartState::new(Status::Ok, ""),
        (true, "") => PartState::new(Status::Down, "unreachable"),
        (true, meanwhile) => PartState::new(Status::Down, format!("unreachable; {meanwhile}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_circuit_is_a_part_that_is_down() {
        let circuit = Circuit::new("cache", 1);
        assert_eq!(state(&circuit, "x"), PartState::new(Status::Ok, ""));
        circuit.trip(&"refused");
        assert_eq!(state(&circuit, ""), PartState::new(Status::Down, "unreachable"));
        assert_eq!(state(&circuit, "likes wait").detail, "unreachable; likes wait");
    }
}
