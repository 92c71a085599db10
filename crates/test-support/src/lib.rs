//! Private redis, mariadb and rabbitmq processes, fault proxy and builders for tests.
//!
//! - [`Redis`], [`MariaDb`], [`RabbitMq`]: a process of one's own on a free port, with its data in a temporary
//!   directory; it can be killed, stopped, paused, restarted and wiped ([`Server`]).
//! - [`shared`]: one server of each kind per test process, or the ones named by `TEST_REDIS_URL`,
//!   `TEST_DATABASE_URL` and `TEST_AMQP_URL`; tests keep apart by [`fresh_database`] and [`unique_name`].
//! - [`RedisGroup`], [`MariaDbGroup`]: a primary with replicas, whose roles can be changed.
//! - [`RedisCluster`]: primaries that share the keys, with replicas; slots can be moved.
//! - [`RabbitMqGroup`]: brokers that are one cluster.
//! - [`Proxy`]: a TCP link that can be cut, frozen (both ways or one), slowed, and led to another server.
//! - [`Preload`]: a slow disk and a wrong clock for one of them, while it runs.
//! - [`Wire`]: a few words of AMQP, for what no part of the system may do.
//! - [`Deployment`]: stores and programs as one installation, and ways around them.
//! - [`ChangeView`]: what a listener makes of the changes that it hears.
//! - [`Binary`]: one of the workspace's own programs as a process, with its log captured.
//! - [`Browser`]: a headless Chromium to look at pages with.
//! - [`eventually`]: waits for a condition and says what it last saw.
//! - [`Authority`]: certificates, good and bad ones.
//! - [`build`]: short builders of domain values.
//! - [`documents`]: the Markdown files of this repository.
//!
//! Nothing stays behind: values clean up when dropped, and a small guardian process does it when the test process ends
//! in any other way, `kill -9` included (see the `guardian` module). `TEST_SUPPORT_KEEP=1` keeps the directories.
//!
//! Deliberately absent: containers, and any client library of the servers.

mod authority;
mod binary;
mod browser;
pub mod build;
pub mod cache_contract;
mod changes;
mod clock;
mod database;
mod deployment;
pub mod documents;
mod eventually;
mod guardian;
pub mod http;
mod ipv6;
mod launch;
mod mariadb;
mod mariadb_group;
mod names;
mod ports;
mod preload;
mod process;
mod proxy;
mod rabbitmq;
mod rabbitmq_group;
mod random;
mod redis;
mod redis_cluster;
mod redis_group;
mod server;
pub mod shared;
mod wire;

pub use authority::{Authority, Credential};
pub use binary::{Binary, BinaryBuilder};
pub use browser::Browser;
pub use changes::{ChangeStates, ChangeView};
pub use clock::wall_clock;
pub use database::{dump_schema, execute_sql, fresh_database, restore_schema};
pub use deployment::{Deployment, DeploymentBuilder, Links, Load, Ports, Program, ProgramBuilder, Verified, last_json};
pub use eventually::{Observed, eventually, expect_eq, try_eventually};
pub use ipv6::listen_by_ipv6;
pub use mariadb::{MariaDb, MariaDbOptions};
pub use mariadb_group::MariaDbGroup;
pub use names::{unique_name, with_database};
pub use ports::{PortLease, lease_port};
pub use preload::Preload;
pub use proxy::Proxy;
pub use rabbitmq::RabbitMq;
pub use rabbitmq_group::RabbitMqGroup;
pub use random::Random;
pub use redis::{Redis, RedisOptions};
pub use redis_cluster::RedisCluster;
pub use redis_group::{RedisGroup, RedisGroupOptions};
pub use server::Server;
pub use wire::Wire;
