//! The old schema, as bad as it gets, on a real database and through the command line.

mod history;
mod times;

use crate::command_line::{syncctl, text};
use domain::{Action, PairState, Version};
use event_store::{DatabaseConfig, EventStore};
use serde_json::Value;
use tempfile::TempDir;
use test_support::build::{comment_event, comment_pair, event, video_pair};
use test_support::{execute_sql, fresh_database, shared, wall_clock};

/// 2024-05-01 00:00:00 UTC.
const DAY: i64 = 1_714_521_600_000_000;
const HOUR: i64 = 3_600_000_000;

const LEGACY: &str = "
    CREATE TABLE old_user_behaviors (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT, video_id BIGINT,
        behavior_type VARCHAR(32), behavior_time VARCHAR(64)) CHARACTER SET latin1;
    CREATE TABLE old_video_likes (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT, video_id BIGINT,
        created_at VARCHAR(64), updated_at VARCHAR(64), deleted_at VARCHAR(64), is_deleted TINYINT);
    CREATE TABLE old_comment_likes (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT, comment_id BIGINT,
        created_at DATETIME NULL, deleted_at DATETIME NULL);
    INSERT INTO old_user_behaviors VALUES
        (1, 1, 10, 'like', '2024-05-01 01:00:00'),
        (2, 1, 10, 'unlike', '2024-05-01 01:00:00'),
        (3, 1, 10, 'LIKE ', '2024-05-01 01:00:00'),
        (4, 1, 10, 'view', NULL),
        (5, 2, 10, 'like', NULL),
        (6, 2, 10, 'like', 'yesterday'),
        (7, -2, 10, 'like', '2024-05-01 01:00:00'),
        (8, 3, 0, 'like', '2024-05-01 01:00:00'),
        (9, 3, 10, NULL, '2024-05-01 01:00:00'),
        (10, 3, 10, 'like', '2199-01-01 00:00:00'),
        (11, 3, 10, 'like', '0000-00-00 00:00:00'),
        (12, NULL, 10, 'like', '2024-05-01 01:00:00'),
        (13, 4, 10, 'like', '2024-05-01T09:00:00+08:00'),
        (14, 4, 10, 'unlike', '2024-05-01T00:59:59Z'),
        (15, 5, 10, 'like', '1714525200');
    INSERT INTO old_video_likes VALUES
        (1, 1, 10, '2024-05-01 01:00:00', NULL, NULL, 0),
        (2, 1, 10, '2024-05-01 01:00:00', NULL, NULL, 0),
        (3, 6, 10, '2024-05-01 01:00:00', NULL, '2024-05-01 02:00:00', 1),
        (4, 6, 10, '2024-05-01 03:00:00', NULL, NULL, 0),
        (5, 7, 10, '2024-05-01 01:00:00', NULL, '2024-05-01 02:00:00', 1),
        (6, 8, 10, '2024-05-01 01:00:00', '2024-05-01 05:00:00', '2024-05-01 02:00:00', 0),
        (7, 9, 10, '2024-05-01 01:00:00', NULL, '0000-00-00 00:00:00', NULL),
        (8, 10, 10, '2024-05-01 01:00:00', NULL, NULL, 1),
        (9, 11, 10, NULL, NULL, NULL, 0),
        (10, 11, 10, '2024-05-01 01:00:00', 'never', NULL, 0),
        (11, 11, 10, '2024-05-01 01:00:00', NULL, NULL, 7),
        (12, 12, 10, '2024-05-01 05:00:00', NULL, '2024-05-01 01:00:00', 1);
    INSERT INTO old_comment_likes VALUES
        (1, 1, 20, '2024-05-01 01:00:00', NULL), (2, 2, 20, '2024-05-01 01:00:00', '2024-05-01 02:00:00'),
        (3, 3, 20, NULL, NULL), (4, 4, -20, '2024-05-01 01:00:00', NULL);";

struct Migration {
    url: String,
    store: EventStore,
    dir: TempDir,
}

impl Migration {
    async fn new() -> Self {
        let url = fresh_database(shared::mariadb().await.unwrap().url()).await.unwrap();
        let config = DatabaseConfig { url: url.clone().into(), ..DatabaseConfig::default() };
        let store = EventStore::connect(&config).await.unwrap();
        store.migrate().await.unwrap();
        Self { url, store, dir: TempDir::new().unwrap() }
    }

    async fn sql(&self, statements: &str) -> String {
        // Old systems were lax.
        execute_sql(&self.url, &format!("SET sql_mode = ''; {statements}")).await.unwrap()
    }

    async fn number(&self, query: &str) -> i64 {
        self.sql(query).await.trim().parse().unwrap()
    }

    async fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut all = args.to_vec();
        all.extend(["--database-url", &self.url]);
        let output = syncctl(&all).await;
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn rejects(&self) -> String {
        self.dir.path().join("rejects.tsv").display().to_string()
    }

    async fn import(&self, more: &[&str]) -> (Option<i32>, String, String) {
        let rejects = self.rejects();
        let mut args = vec!["import-legacy", "--table-prefix", "old_", "--rejects", &rejects];
        args.extend(more);
        self.run(&args).await
    }

    async fn states(&self) -> Vec<(i64, bool)> {
        let rows = self.sql("SELECT user_id, deleted_at IS NULL FROM video_likes WHERE video_id = 10 ORDER BY 1").await;
        let pair = |line: &str| {
            let (user, liked) = line.split_once('\t').unwrap();
            (user.parse().unwrap(), liked == "1")
        };
        rows.lines().map(pair).collect()
    }

    async fn assert_counts_are_live_rows(&self) {
        let wrong = self
            .sql(
                "SELECT * FROM like_counts c WHERE c.like_count <> IF(c.resource_type = 'video', \
                 (SELECT COUNT(*) FROM video_likes l WHERE l.video_id = c.resource_id AND l.deleted_at IS NULL), \
                 (SELECT COUNT(*) FROM comment_likes l WHERE l.comment_id = c.resource_id AND l.deleted_at IS NULL))",
            )
            .await;
        assert_eq!(wrong, "");
    }
}

#[tokio::test]
async fn nasty_data_is_imported_or_named() {
    let to = Migration::new().await;
    to.sql(LEGACY).await;
    // The user of the first rows acts in the new system already; the import must not undo that.
    let now = event(8, 10, Action::Unlike, DAY + 20 * HOUR);
    to.store.apply(&[now], wall_clock().into()).await.unwrap();

    let (code, out, error) = to.import(&["--json", "--batch-size", "3"]).await;
    assert_eq!(code, Some(1), "{out}{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let rows: Vec<_> =
        report["tables"].as_array().unwrap().iter().map(|table| (&table["rows"], &table["rejected"])).collect();
    assert_eq!(
        format!("{rows:?}"),
        "[(Number(15), Number(8)), (Number(12), Number(3)), (Number(4), Number(2))]",
        "{out}"
    );
    let rejects = std::fs::read_to_string(to.rejects()).unwrap();
    let named: Vec<&str> = rejects.lines().map(|line| line.rsplit_once('\t').unwrap().0).collect();
    let expected: Vec<String> = [5, 6, 7, 8, 9, 10, 11, 12]
        .iter()
        .map(|id| format!("old_user_behaviors\t{id}"))
        .chain([9, 10, 11].iter().map(|id| format!("old_video_likes\t{id}")))
        .chain([3, 4].iter().map(|id| format!("old_comment_likes\t{id}")))
        .collect();
    assert_eq!(named, expected, "{rejects}");
    for reason in ["behavior_time is null", "is no time", "user_id", "behavior_type is null", "in the future"] {
        assert!(rejects.contains(reason), "{reason}: {rejects}");
    }

    let states =
        [(1, true), (4, true), (5, true), (6, true), (7, false), (8, false), (9, true), (10, false), (12, false)];
    assert_eq!(to.states().await, states);
    // The id orders what one user did in the same second.
    let first = to.store.load_states(&[video_pair(1, 10), video_pair(5, 10)]).await.unwrap();
    assert_eq!(first[0], PairState { liked: true, version: Version(DAY + HOUR + 3) });
    assert_eq!(first[1], PairState { liked: true, version: Version(DAY + HOUR) });
    let comments = to.store.load_states(&[comment_pair(1, 20), comment_pair(2, 20)]).await.unwrap();
    assert_eq!((comments[0].liked, comments[1].liked), (true, false));
    to.assert_counts_are_live_rows().await;
    assert_eq!(to.number("SELECT like_count FROM like_counts WHERE resource_type = 'video'").await, 5);
    // Caches are told of every pair that changed.
    assert!(to.number("SELECT COUNT(DISTINCT user_id) FROM cache_refreshes WHERE resource_type = 'video'").await >= 8);

    // Again, from where it stands and from the beginning: nothing changes.
    let history = to.number("SELECT COUNT(*) FROM user_behaviors").await;
    let (code, out, _) = to.import(&["--json"]).await;
    let again: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &again["tables"][0]["rows"], &again["tables"][0]["after"]), (Some(0), &0.into(), &15.into()));
    let (code, out, _) = to.import(&["--json", "--restart", "--allow-rejects"]).await;
    let again: Value = serde_json::from_str(&out).unwrap();
    let changed: Vec<_> = again["tables"].as_array().unwrap().iter().map(|table| table["changed"].clone()).collect();
    assert_eq!((code, changed), (Some(0), vec![Value::from(0); 3]), "{out}");
    assert_eq!(std::fs::read_to_string(to.rejects()).unwrap(), rejects);
    assert_eq!(to.number("SELECT COUNT(*) FROM user_behaviors").await, history);
    assert_eq!(to.states().await, states);

    // What the old system wrote meanwhile, and only that.
    to.sql("INSERT INTO old_user_behaviors VALUES (16, 7, 10, 'like', '2024-05-02 00:00:00')").await;
    let (code, out, _) = to.import(&["--tables", "user_behaviors"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("1 row read after id 15: 1 like or unlike, 1 pair changed"), "{out}");
    to.assert_counts_are_live_rows().await;
}

#[tokio::test]
async fn times_without_a_zone_are_in_the_one_given() {
    let to = Migration::new().await;
    to.sql(LEGACY).await;
    let (code, out, error) =
        to.import(&["--tables", "video_likes", "--timezone", "-05:00", "--allow-rejects", "--offline"]).await;
    assert_eq!(code, Some(0), "{out}{error}");
    let state = to.store.load_states(&[video_pair(9, 10)]).await.unwrap()[0];
    assert_eq!(state, PairState { liked: true, version: Version(DAY + 6 * HOUR) });
    assert_eq!(to.number("SELECT COUNT(*) FROM cache_refreshes").await, 0, "told although nobody need be");
}

#[tokio::test]
async fn another_schema_is_a_clear_error_and_nothing_is_written() {
    let to = Migration::new().await;
    to.sql(LEGACY).await;
    for (change, args, reason) in [
        (
            "ALTER TABLE old_video_likes ADD mood INT, ADD weight INT",
            &[][..],
            "old_video_likes: unknown columns mood, weight",
        ),
        (
            "ALTER TABLE old_video_likes DROP weight, CHANGE created_at liked_on VARCHAR(64)",
            &["--ignore-columns", "mood"],
            "column created_at is missing; unknown columns liked_on",
        ),
        (
            "SELECT 1",
            &["--ignore-columns", "mood", "--column", "video_likes.created_at=liked"],
            "column liked is missing",
        ),
        ("SELECT 1", &["--table-prefix=", "--tables", "video_likes"], "table video_likes: column id is missing"),
        ("SELECT 1", &["--table-prefix=older_"], "there is no table older_user_behaviors"),
        (
            "ALTER TABLE old_comment_likes MODIFY id BIGINT, DROP PRIMARY KEY",
            &["--tables", "comment_likes"],
            "id is not the primary key",
        ),
    ] {
        to.sql(change).await;
        let mut all = vec!["import-legacy"];
        if !args.iter().any(|arg| arg.starts_with("--table-prefix")) {
            all.extend(["--table-prefix", "old_"]);
        }
        all.extend(args);
        let rejects = to.rejects();
        all.extend(["--rejects", &rejects]);
        let (code, out, error) = to.run(&all).await;
        assert_eq!(code, Some(1), "{args:?}: {out}");
        assert!(error.contains(reason), "{args:?}: {error}");
    }
    assert_eq!(to.number("SELECT COUNT(*) FROM user_behaviors").await, 0);
    let renamed =
        ["--tables", "video_likes", "--ignore-columns", "mood", "--column", "video_likes.created_at=liked_on"];
    let (code, out, error) = to.import(&[&renamed[..], &["--allow-rejects"]].concat()).await;
    assert_eq!(code, Some(0), "{out}{error}");
    assert_eq!(to.number("SELECT like_count FROM like_counts").await, 4);
}

#[tokio::test]
async fn an_import_that_was_stopped_goes_on() {
    let to = Migration::new().await;
    to.sql(LEGACY).await;
    to.sql("DELETE FROM old_video_likes").await;
    let rows: Vec<String> =
        (1..=3000).map(|user| format!("({user}, {}, '2024-05-01 01:00:00')", 1 + user % 7)).collect();
    to.sql(&format!("INSERT INTO old_video_likes (user_id, video_id, created_at) VALUES {}", rows.join(", "))).await;
    // The database refuses one row whatever happens.
    to.sql(
        "\nDELIMITER //\nCREATE TRIGGER refuse BEFORE INSERT ON video_likes FOR EACH ROW \
            IF NEW.user_id = 1234 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused by a trigger'; END IF//",
    )
    .await;
    let args = ["--tables", "video_likes", "--batch-size", "100", "--max-rate", "1000", "--offline", "--json"];
    let rejects = to.rejects();
    let mut all = vec!["import-legacy", "--table-prefix", "old_", "--rejects", &rejects, "--database-url", &to.url];
    all.extend(args);
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_syncctl")).args(&all).spawn().unwrap();
    test_support::eventually(std::time::Duration::from_secs(30), "some rows", async || {
        test_support::expect_eq(to.number("SELECT COUNT(*) > 500 FROM video_likes").await, 1)
    })
    .await;
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    let before = to.number("SELECT COUNT(*) FROM video_likes").await;
    assert!(before < 2_999, "it was over already");
    let (code, out, error) = to.import(&args).await;
    assert_eq!(code, Some(1), "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let table = &report["tables"][0];
    assert_eq!(
        table["after"].as_i64().unwrap() + table["rows"].as_i64().unwrap(),
        to.number("SELECT MAX(id) FROM old_video_likes").await
    );
    assert_eq!(to.number("SELECT COUNT(*) FROM video_likes").await, 2_999);
    assert!(std::fs::read_to_string(&rejects).unwrap().contains("refused by a trigger"));
    to.assert_counts_are_live_rows().await;
}

#[tokio::test]
async fn an_old_sqlite_file_is_read_too() {
    let to = Migration::new().await;
    let file = to.dir.path().join("old.db");
    let url = format!("sqlite:{}", file.display());
    let old = sea_orm::Database::connect(format!("{url}?mode=rwc")).await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(
        &old,
        "CREATE TABLE comment_likes (id INTEGER PRIMARY KEY, user_id INTEGER, comment_id INTEGER, created_at TEXT, deleted INTEGER);
         INSERT INTO comment_likes VALUES (1, 1, 5, '2024-05-01 01:00:00.5', 0), (2, 2, 5, '2024-05-01 01:00:00', 1)",
    )
    .await
    .unwrap();
    old.close().await.unwrap();
    let (code, out, error) =
        to.run(&["import-legacy", "--from-url", &url, "--tables", "comment_likes", "--rejects", &to.rejects()]).await;
    assert_eq!(code, Some(0), "{out}{error}");
    let states = to.store.load_states(&[comment_pair(1, 5), comment_pair(2, 5)]).await.unwrap();
    assert_eq!(states[0], PairState { liked: true, version: Version(DAY + HOUR + 500_000) });
    assert!(!states[1].liked);
}

#[tokio::test]
async fn the_write_path_is_ordered_and_taken_back() {
    let to = Migration::new().await;
    for (args, said) in [
        (&["get"][..], "as configured"),
        (&["set", "25%"], "25%"),
        (&["get"], "25%"),
        (&["set", "synchronous"], "synchronous"),
        (&["get"], "synchronous"),
        (&["unset"], "as configured"),
        (&["get"], "as configured"),
    ] {
        let (code, out, error) = to.run(&[&["write-path"], args].concat()).await;
        assert_eq!((code, out.trim()), (Some(0), said), "{args:?}: {error}");
    }
    let (code, _, error) = to.run(&["write-path", "set", "101%"]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("0 to 100"), "{error}");
}
