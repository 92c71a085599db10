//! What the server says about its stores: one of them unreachable is degraded service, cache and database together none.

use interaction_api::assembly::register_likes;
use service_runtime::{Criticality, HealthRegistry};
use settings::Settings;
use settings::health::{
    StorePart, register as register_stores, register_flow, register_redo_log, register_standing, register_surroundings,
};
use sync_engine::Stores;

pub(crate) fn register(health: &HealthRegistry, stores: &Stores, settings: &Settings) {
    let part = |name, circuit, meanwhile| StorePart { name, criticality: Criticality::Optional, circuit, meanwhile };
    register_stores(
        health,
        [
            part("redis", &stores.cache_circuit, "likes are written to the database directly"),
            part("mysql", &stores.database_circuit, "likes are accepted and wait in journal and queue"),
            part("rabbitmq", &stores.broker_circuit, "events are applied directly"),
        ],
    );
    register_surroundings(health, stores);
    register_likes(health, stores);
    register_standing(health, stores);
    register_flow(health, stores);
    register_redo_log(health, &settings.rabbitmq);
}
