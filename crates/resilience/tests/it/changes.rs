//! Listeners to changes: whoever dies at whichever point, what they have made of all that they heard is what the database has.
//!
//! `CHANGES_SEEDS` (`5`, `1,7`, `1-20`; one by default) says which sequences of trouble are gone through, `CHANGES_PYTHON` a
//! Python with pika: then the listener is `docs/clients/python/changes.py`, which dies, too.

use crate::kill::OPERATIONS;
use crate::system::{PATIENCE, Role, System, dies_at, finished};
use Role::{Consumer, Server};
use event_bus::{BusConfig, ChangeListener};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::{Binary, ChangeStates, ChangeView, Program, Random, Wire, eventually, unique_name};
use tokio::task::JoinHandle;

const CHANGES: (&str, &str) = ("RABBITMQ__CHANGES__ENABLED", "true");

/// Where a consumer dies: before the commit, between it and publishing, between publishing and the acknowledgement.
const POINTS: [&str; 6] =
    ["store.before_commit", "apply.committed", "changes.sent", "changes.published", "apply.settled", "consume.applied"];

/// Who listens all the time.
enum Listener {
    /// This process.
    Here(Arc<Mutex<ChangeView>>, JoinHandle<()>),
    /// Another one, with a queue that outlives it.
    Python { process: Box<Binary>, view: PathBuf, queue: String },
}

fn python() -> Option<PathBuf> {
    std::env::var_os("CHANGES_PYTHON").map(PathBuf::from)
}

fn script() -> String {
    format!("{}/../../docs/clients/python/changes.py", env!("CARGO_MANIFEST_DIR"))
}

impl Listener {
    async fn of(system: &System) -> Self {
        let (url, prefix) = (system.broker_url(), system.prefix());
        let bus = BusConfig { url: url.clone().into(), prefix: prefix.clone(), ..BusConfig::default() };
        let mut listener = ChangeListener::open(&bus, "#").await.unwrap();
        let Some(python) = python() else {
            let view = Arc::new(Mutex::new(ChangeView::default()));
            let keeps = Arc::clone(&view);
            let hears = async move {
                loop {
                    let message = listener.next().await.unwrap();
                    keeps.lock().unwrap().hear(&message.key, &message.body).unwrap();
                }
            };
            return Self::Here(view, tokio::spawn(hears));
        };
        // There is an exchange now.
        listener.close().await;
        // SQLite keeps files beside it.
        let directory = std::env::temp_dir().join(unique_name("view"));
        std::fs::create_dir(&directory).unwrap();
        let view = directory.join("view.db");
        let queue = format!("{prefix}.changes.view");
        let directory = python.parent().expect("a path").to_owned();
        let process = Binary::build(python.file_name().expect("a path").to_string_lossy())
            .found_in(directory)
            .args([script(), "listen".to_owned()])
            .env("AMQP_URL", url)
            .env("AMQP_PREFIX", prefix)
            .env("VIEW", &view)
            .start()
            .unwrap();
        process.wait_log("listening", PATIENCE).await.unwrap();
        Self::Python { process: Box::new(process), view, queue }
    }

    fn states(&self) -> Result<ChangeStates, String> {
        match self {
            Self::Here(_, hears) if hears.is_finished() => Err("the listener has ended".to_owned()),
            Self::Here(view, _) => Ok(view.lock().unwrap().states.clone()),
            Self::Python { view, .. } => {
                let mut show = Command::new(python().expect("it listens"));
                let shown = show.args([script(), "show".to_owned()]).env("VIEW", view).output().unwrap();
                assert!(shown.status.success(), "{shown:?}");
                let state = |line: &str| {
                    let shown: Value = serde_json::from_str(line).unwrap();
                    let text = |name: &str| shown[name].as_str().unwrap().to_owned();
                    (text("subject"), (shown["number"].as_i64().unwrap(), text("state")))
                };
                Ok(String::from_utf8(shown.stdout).unwrap().lines().map(state).collect())
            }
        }
    }

    /// `kill -9`, and again.
    async fn dies(&self) {
        if let Self::Python { process, .. } = self {
            let listened = process.log().matches("listening").count();
            process.kill9().unwrap();
            process.restart().unwrap();
            let again = async || process.log().matches("listening").count() > listened;
            eventually(PATIENCE, "it listens again", again).await;
        }
    }

    async fn end(self, broker: &str) {
        match self {
            Self::Here(_, hears) => hears.abort(),
            Self::Python { process, view, queue } => {
                process.kill9().unwrap();
                Wire::connect(broker).await.unwrap().delete_queue(&queue).await.unwrap();
                std::fs::remove_dir_all(view.parent().expect("its directory")).unwrap();
            }
        }
    }
}

/// Everything answered is in the stores, and the listener has what the database has.
async fn ended(system: System, listener: Listener, processes: Vec<Program>) {
    system.verify().await;
    system.expect_number("SELECT COUNT(*) FROM unpublished_changes", 0).await;
    let stored = system.change_states().await;
    assert!(stored.len() > 200, "{}", stored.len());
    eventually(PATIENCE, "the listener has what the database has", async || differences(&listener.states()?, &stored))
        .await;
    let broker = system.broker_url();
    listener.end(&broker).await;
    system.end(processes).await;
}

/// The first of them.
fn differences(heard: &ChangeStates, stored: &ChangeStates) -> Result<(), String> {
    let lacks = stored.iter().filter(|(subject, state)| heard.get(*subject) != Some(state));
    let more = heard.keys().filter(|subject| !stored.contains_key(*subject));
    let wrong: Vec<_> = lacks
        .map(|(subject, state)| format!("{subject}: {state:?} stored, {:?} heard", heard.get(subject)))
        .chain(more.map(|subject| format!("{subject} is only heard of")))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("{} differ: {:?}", wrong.len(), &wrong[..wrong.len().min(5)])) }
}

#[tokio::test]
async fn a_consumer_that_dies_anywhere_is_made_good() {
    let mut system = System::new(&[CHANGES]).await;
    let listener = Listener::of(&system).await;
    let server = system.start_ready(Server, "").await;
    for (nth, point) in POINTS.into_iter().enumerate() {
        let victim = system.start_ready(Consumer, &format!("{point}:{}", nth + 5)).await;
        let load = system.load(OPERATIONS / 2);
        dies_at(&victim, point).await;
        listener.dies().await;
        finished(&load).await;
    }
    let consumer = system.start_ready(Consumer, "").await;
    ended(system, listener, vec![server, consumer]).await;
}

#[tokio::test]
async fn noted_changes_published_and_not_deleted() {
    let mut system = System::new(&[CHANGES]).await;
    let listener = Listener::of(&system).await;
    let server = system.start_ready(Server, "").await;
    let victim = system.start_ready(Consumer, "changes.told").await;
    let load = system.load(OPERATIONS);
    system.under_way().await;
    // What the server applies itself, it notes.
    system.links.rabbitmq.cut().await;
    dies_at(&victim, "changes.told").await;
    let restarted = system.start(Consumer, "").await;
    system.links.rabbitmq.restore().await.unwrap();
    finished(&load).await;
    ended(system, listener, vec![server, restarted]).await;
}

/// Consumers make the exchange soon after they have started.
async fn listening(system: &System, arguments: &[&str]) -> Binary {
    for _ in 0..100 {
        let tail = system.start_syncctl(&[&["changes", "tail"], arguments].concat());
        if tail.wait_log("listening", PATIENCE).await.is_ok() {
            return tail;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody makes the exchange of changes");
}

#[tokio::test]
async fn what_is_told_is_printed_line_by_line() {
    let mut system = System::new(&[CHANGES]).await;
    let nobody = system.start_syncctl(&["changes", "tail"]);
    assert!(!nobody.wait_exit(PATIENCE).await.unwrap().success(), "{}", nobody.log());
    assert!(nobody.log().contains("rabbitmq.changes.enabled"), "{}", nobody.log());
    let processes = [system.start_ready(Server, "").await, system.start_ready(Consumer, "").await];
    let lines = listening(&system, &["--json", "--events", "500"]).await;
    let table = listening(&system, &["--key", "comment.count", "--events", "1", "-o", "tsv"]).await;
    finished(&system.load(OPERATIONS)).await;
    for tail in [&lines, &table] {
        assert!(tail.wait_exit(PATIENCE).await.unwrap().success(), "{}", tail.log());
    }
    let log = lines.log();
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(events.len(), 500, "{log}");
    assert!(events.iter().all(|event| event["specversion"] == "1.0" && event["data"]["id"].is_string()), "{log}");
    let log = table.log();
    let printed: Vec<_> = log.lines().filter(|line| line.contains('\t')).collect();
    assert_eq!(printed.len(), 2, "{log}");
    assert_eq!(printed[0], "KEY\tSUBJECT\tSTATE\tNUMBER\tTIME");
    assert!(printed[1].starts_with("comment.count\tcomment/"), "{log}");
    system.verify().await;
    system.end(processes).await;
}

/// `5`, `1,7`, `1-20`.
fn seeds() -> Vec<u64> {
    let text = std::env::var("CHANGES_SEEDS").unwrap_or_else(|_| "1".to_owned());
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.trim().parse::<u64>().unwrap()..=last.trim().parse().unwrap()
    };
    text.split(',').flat_map(range).collect()
}

#[tokio::test]
async fn listeners_have_what_the_database_has_after_any_sequence_of_trouble() {
    for seed in seeds() {
        println!("seed {seed}");
        trouble(seed).await;
    }
}

async fn trouble(seed: u64) {
    const STEPS: usize = 6;
    let mut random = Random(seed);
    let mut system = System::new(&[CHANGES]).await;
    let listener = Listener::of(&system).await;
    let mut server = system.start_ready(Server, "").await;
    let mut consumer = system.start_ready(Consumer, "").await;
    for _ in 0..STEPS {
        let load = system.load(OPERATIONS / 2);
        let pause = Duration::from_millis(random.below(600).unsigned_abs());
        match random.below(7) {
            0..=2 => {
                let point = POINTS[usize::try_from(random.below(6)).unwrap()];
                let nth = 1 + random.below(4);
                println!("the consumer dies at {point}:{nth}");
                consumer.kill9().unwrap();
                let victim = system.start(Consumer, &format!("{point}:{nth}")).await;
                dies_at(&victim, point).await;
                consumer = system.start(Consumer, "").await;
            }
            3 => {
                println!("the server dies");
                system.under_way().await;
                server.kill9().unwrap();
                server = system.start(Server, "").await;
            }
            4 => {
                println!("the server does not reach the broker for {pause:?}");
                system.under_way().await;
                system.links.rabbitmq.cut().await;
                tokio::time::sleep(pause).await;
                system.links.rabbitmq.restore().await.unwrap();
            }
            5 => {
                println!("the server does not reach Redis for {pause:?}");
                system.under_way().await;
                system.links.redis.cut().await;
                tokio::time::sleep(pause).await;
                system.links.redis.restore().await.unwrap();
            }
            _ => {
                println!("the database refuses rows of one video for {pause:?}");
                system.poison().await;
                tokio::time::sleep(pause).await;
                system.cure().await;
            }
        }
        listener.dies().await;
        // The judge reads one load after the other.
        finished(&load).await;
    }
    ended(system, listener, vec![server, consumer]).await;
}
