//! What this process says about its parts.

use service_runtime::{Criticality, HealthRegistry, PartState, Status};
use std::sync::Arc;
use sync_engine::Stores;
use sync_engine::stores::circuit_breaker::Circuit;

const CACHE_AWAY: &str = "likes are written to the database directly";

/// Registers the stores' circuits. One store unreachable is degraded service, both unreachable is none. Without a broker the stores
/// are the embedded ones.
pub fn register(health: &HealthRegistry, stores: &Stores, broker: bool) {
    let mut parts = if broker {
        vec![
            ("redis", &stores.cache_circuit, CACHE_AWAY),
            ("mysql", &stores.database_circuit, "likes are accepted and wait in journal and queue"),
        ]
    } else {
        vec![
            ("journal", &stores.cache_circuit, CACHE_AWAY),
            ("database", &stores.database_circuit, "likes are accepted and wait in the journal"),
        ]
    };
    if broker {
        parts.push(("rabbitmq", &stores.broker_circuit, "events are applied directly"));
    }
    for (name, circuit, meanwhile) in parts {
        let circuit = Arc::clone(circuit);
        health.probe(name, Criticality::Optional, move || {
            let state = state(&circuit, meanwhile);
            async move { state }
        });
    }
    let (cache, database) = (Arc::clone(&stores.cache_circuit), Arc::clone(&stores.database_circuit));
    health.probe("likes", Criticality::Critical, move || {
        let down = cache.is_open() && database.is_open();
        async move {
            if down {
                PartState::new(Status::Down, "cache and database are unreachable")
            } else {
                PartState::new(Status::Ok, "")
            }
        }
    });
}

fn state(circuit: &Circuit, meanwhile: &str) -> PartState {
    if circuit.is_open() {
        PartState::new(Status::Down, format!("unreachable; {meanwhile}"))
    } else {
        PartState::new(Status::Ok, "")
    }
}
