//! One deployment of the product for a test: its stores, its programs, and ways around them.
//!
//! ```ignore
//! let deployment = Deployment::build("server").own_mariadb().start().await?.with("RABBITMQ__DELIVERY_LIMIT", "10");
//! let (server, consumer) = (deployment.server().start_ready().await?, deployment.consumer().start_ready().await?);
//! deployment.mariadb().pause()?;
//! let (code, health) = server.get("/health").await?;
//! consumer.end(Duration::from_secs(15)).await?;
//! ```
//!
//! Deployments on shared stores keep apart by a schema and a prefix of their own. Programs are processes: they die with
//! their value. Deliberately absent: typed clients of gRPC, Redis and SQL, which belong to the tests that need them.

mod copies;
mod links;
mod load;
mod program;
mod stores;

pub use links::Links;
pub use load::{Load, Verified, last_json};
pub use program::{Ports, Program, ProgramBuilder};

use crate::launch::WorkDir;
use crate::{
    Binary, BinaryBuilder, Credential, MariaDb, RabbitMq, Redis, RedisOptions, Wire, execute_sql, unique_name,
};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stores::{Choices, Source, Stores};

/// Settings of the programs start with this.
const SETTINGS_PREFIX: &str = "INTERACTION__";

/// Says which stores a deployment gets: those that all tests share, unless said otherwise.
#[derive(Debug)]
pub struct DeploymentBuilder {
    name: String,
    choices: Choices,
    bin_dir: Option<PathBuf>,
}

impl DeploymentBuilder {
    /// A redis that the test may kill.
    pub fn own_redis(mut self, options: RedisOptions) -> Self {
        self.choices.redis = Source::Own;
        self.choices.redis_options = options;
        self
    }

    /// A mariadb that the test may kill.
    pub fn own_mariadb(mut self) -> Self {
        self.choices.mariadb = Source::Own;
        self
    }

    /// The same with more arguments, such as `--log-bin`.
    pub fn own_mariadb_with(mut self, arguments: &'static [&'static str]) -> Self {
        self.choices.mariadb_arguments = arguments;
        self.own_mariadb()
    }

    /// A rabbitmq that the test may kill.
    pub fn own_rabbitmq(mut self) -> Self {
        self.choices.rabbitmq = Source::Own;
        self
    }

    /// Disks and clocks of its own stores can fail: [`Server::preload`](crate::Server::preload).
    pub fn preloaded(mut self) -> Self {
        self.choices.preload = true;
        self
    }

    /// The redis that this address leads to; it may lead to another one later.
    pub fn redis_at(mut self, url: impl Into<String>) -> Self {
        self.choices.redis = Source::At(url.into());
        self
    }

    /// The mariadb that this address leads to (a schema is made there); it may lead to another one later.
    pub fn mariadb_at(mut self, url: impl Into<String>) -> Self {
        self.choices.mariadb = Source::At(url.into());
        self
    }

    /// The rabbitmq that this address leads to.
    pub fn rabbitmq_at(mut self, url: impl Into<String>) -> Self {
        self.choices.rabbitmq = Source::At(url.into());
        self
    }

    /// Redis, MariaDB (without a schema) and RabbitMQ that somebody else runs.
    pub fn at(mut self, redis: &str, mariadb: &str, rabbitmq: &str) -> Self {
        let at = |url: &str| Source::At(url.to_owned());
        self.choices = Choices { redis: at(redis), mariadb: at(mariadb), rabbitmq: at(rabbitmq), ..self.choices };
        self
    }

    /// Nothing needs a broker.
    pub fn without_rabbitmq(mut self) -> Self {
        self.choices.rabbitmq = Source::Absent;
        self
    }

    /// No stores at all: the standalone program brings its own.
    pub fn without_stores(mut self) -> Self {
        let absent = || Source::Absent;
        self.choices = Choices { redis: absent(), mariadb: absent(), rabbitmq: absent(), ..self.choices };
        self
    }

    /// Takes programs from this directory instead of looking for them.
    pub fn programs_in(mut self, directory: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(directory.into());
        self
    }

    /// Starts the stores, and tells the programs to come where they are.
    pub async fn start(self) -> Result<Deployment> {
        let stores = Stores::start(&self.choices).await?;
        let prefix = unique_name(&self.name);
        let dir = Arc::new(WorkDir::create(&self.name)?);
        let mut settings = Settings::default();
        if let Some(redis) = &stores.redis {
            settings.set("REDIS__URL", redis.url());
            settings.set("REDIS__KEY_PREFIX", &prefix);
        }
        if let Some(url) = &stores.database_url {
            settings.set("DATABASE__URL", url);
        }
        if let Some(rabbitmq) = &stores.rabbitmq {
            settings.set("RABBITMQ__URL", rabbitmq.url());
            settings.set("RABBITMQ__PREFIX", &prefix);
        }
        Ok(Deployment { stores: Arc::new(stores), prefix, settings, dir, bin_dir: self.bin_dir })
    }
}

/// Settings of programs by their key, without [`SETTINGS_PREFIX`].
#[derive(Debug, Clone, Default)]
struct Settings(Vec<(String, String)>);

impl Settings {
    /// The last one counts.
    fn set(&mut self, key: &str, value: &str) {
        self.0.retain(|(name, _)| name != key);
        self.0.push((key.to_owned(), value.to_owned()));
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// Stores, and what programs on them are told. A clone has the same stores, and settings of its own.
#[derive(Debug, Clone)]
pub struct Deployment {
    stores: Arc<Stores>,
    prefix: String,
    settings: Settings,
    dir: Arc<WorkDir>,
    bin_dir: Option<PathBuf>,
}

impl Deployment {
    /// A deployment whose prefix starts with this.
    pub fn build(name: impl Into<String>) -> DeploymentBuilder {
        DeploymentBuilder { name: name.into(), choices: Choices::default(), bin_dir: None }
    }

    /// Sets `INTERACTION__<key>` for programs started from now on; the last one counts.
    pub fn with(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.settings.set(key, value.as_ref());
        self
    }

    /// The same for several.
    pub fn with_all(self, settings: &[(&str, &str)]) -> Self {
        settings.iter().fold(self, |deployment, (key, value)| deployment.with(key, value))
    }

    /// Programs started from now on reach every store over a link.
    pub fn through(self, links: &Links) -> Self {
        let urls = [
            ("REDIS__URL", links.redis.url_of(self.redis().url())),
            ("DATABASE__URL", links.mariadb.url_of(self.database_url())),
            ("RABBITMQ__URL", links.rabbitmq.url_of(self.rabbitmq().url())),
        ];
        urls.into_iter().fold(self, |deployment, (key, url)| deployment.with(key, url))
    }

    /// Programs started from now on know these tokens and no other; see `service.access.tokens_file` for the format.
    pub fn with_tokens(self, tokens: &str) -> Result<Self> {
        let file = self.dir().join("tokens");
        std::fs::write(&file, tokens).with_context(|| format!("write {}", file.display()))?;
        Ok(self.with("SERVICE__ACCESS__TOKENS_FILE", file.to_string_lossy()))
    }

    /// Programs started from now on serve TLS; with an authority of clients, to those that it knows.
    pub fn with_tls(self, server: &Credential, client_ca: Option<&Path>) -> Self {
        let deployment = self
            .with("SERVICE__TLS__CERT_FILE", server.cert.to_string_lossy())
            .with("SERVICE__TLS__KEY_FILE", server.key.to_string_lossy());
        match client_ca {
            Some(ca) => deployment.with("SERVICE__TLS__CLIENT_CA_FILE", ca.to_string_lossy()),
            None => deployment,
        }
    }

    /// The value of `INTERACTION__<key>`, if it is set.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key)
    }

    /// Of the keys, queues and exchanges of this deployment.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A directory that goes with the last clone.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the standalone program of this deployment keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        // A blank, so that nobody forgets that there may be one.
        self.dir().join("data dir")
    }

    /// The redis itself, whatever link the programs use.
    ///
    /// # Panics
    /// There is none, as for the other stores.
    pub fn redis(&self) -> &Redis {
        self.stores.redis.as_deref().unwrap_or_else(|| panic!("a deployment without redis"))
    }

    /// The mariadb itself.
    pub fn mariadb(&self) -> &MariaDb {
        self.stores.mariadb.as_deref().unwrap_or_else(|| panic!("a deployment without mariadb"))
    }

    /// The rabbitmq itself.
    pub fn rabbitmq(&self) -> &RabbitMq {
        self.stores.rabbitmq.as_deref().unwrap_or_else(|| panic!("a deployment without rabbitmq"))
    }

    /// Address of the schema.
    pub fn database_url(&self) -> &str {
        self.stores.database_url.as_deref().unwrap_or_else(|| panic!("a deployment without mariadb"))
    }

    /// Runs statements in the schema, around every program; rows of tab-separated columns.
    pub async fn sql(&self, statements: &str) -> Result<String> {
        execute_sql(self.database_url(), statements).await
    }

    /// The same for a query of one number.
    pub async fn number(&self, query: &str) -> Result<i64> {
        let answer = self.sql(query).await?;
        answer.trim().parse().with_context(|| format!("{query} gave {answer:?}"))
    }

    /// Makes the schema refuse every row of a video, as a constraint would; [`cure`](Self::cure) ends it.
    pub async fn poison(&self, video: i64) -> Result<()> {
        let mut trigger = "DELIMITER //\nCREATE TRIGGER poison BEFORE INSERT ON video_likes FOR EACH ROW ".to_owned();
        write!(
            trigger,
            "IF NEW.video_id = {video} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'poisoned video'; END IF//"
        )?;
        self.sql(&trigger).await.map(drop)
    }

    /// The schema takes every row again.
    pub async fn cure(&self) -> Result<()> {
        self.sql("DROP TRIGGER poison").await.map(drop)
    }

    /// A connection to the broker itself.
    pub async fn wire(&self) -> Result<Wire> {
        Wire::connect(self.rabbitmq().url()).await
    }

    /// Name of the queue of likes.
    pub fn queue(&self) -> String {
        format!("{}.likes", self.prefix)
    }

    /// Name of the exchange that likes are published to.
    pub fn exchange(&self) -> String {
        format!("{}.events", self.prefix)
    }

    /// Deletes what was declared at the broker: a shared one outlives the test.
    pub async fn delete_topology(&self) -> Result<()> {
        let mut wire = self.wire().await?;
        for queue in [self.queue(), format!("{}.likes.dead", self.prefix), format!("{}.log", self.prefix)] {
            wire.delete_queue(&queue).await?;
        }
        for exchange in [self.exchange(), format!("{}.dead", self.prefix), format!("{}.changes", self.prefix)] {
            wire.delete_exchange(&exchange).await?;
        }
        Ok(())
    }

    /// One more server.
    pub fn server(&self) -> ProgramBuilder {
        self.program("interaction-server")
    }

    /// One more consumer.
    pub fn consumer(&self) -> ProgramBuilder {
        self.program("sync-consumer")
    }

    /// One more checker.
    pub fn checker(&self) -> ProgramBuilder {
        self.program("consistency-checker")
    }

    /// The standalone program, on [`data_dir`](Self::data_dir).
    pub fn standalone(&self) -> ProgramBuilder {
        self.program("standalone").arg("--data-dir").arg(self.data_dir())
    }

    /// Any program of the workspace, with the settings of this deployment.
    pub fn program(&self, name: &str) -> ProgramBuilder {
        ProgramBuilder::new(name, self.binary(name), self.settings.clone())
    }

    /// The command line client, told where the stores are.
    pub fn syncctl(&self) -> BinaryBuilder {
        let mut syncctl = self.binary("syncctl");
        if let Some(redis) = &self.stores.redis {
            syncctl = syncctl.env("REDIS_URL", redis.url());
            syncctl = syncctl.env("REDIS_PREFIX", self.setting("REDIS__KEY_PREFIX").unwrap_or_default());
        }
        if let Some(url) = &self.stores.database_url {
            syncctl = syncctl.env("DATABASE_URL", url);
        }
        if let Some(rabbitmq) = &self.stores.rabbitmq {
            syncctl = syncctl.env("AMQP_URL", rabbitmq.url());
            syncctl = syncctl.env("AMQP_PREFIX", self.setting("RABBITMQ__PREFIX").unwrap_or_default());
        }
        syncctl
    }

    fn binary(&self, name: &str) -> BinaryBuilder {
        let binary = Binary::build(name);
        match &self.bin_dir {
            Some(directory) => binary.found_in(directory),
            None => binary,
        }
    }
}
