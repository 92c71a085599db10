//! Waits until nothing is on its way any more.

use super::served::Cached;
use super::sql::Sql;
use std::time::{Duration, Instant};

/// Time between two looks whether all is quiet.
const POLL: Duration = Duration::from_millis(300);

/// How the wait ended.
pub(super) struct Quiet {
    pub(super) waited_s: f64,
    /// What was still going on.
    pub(super) problem: Option<String>,
}

pub(super) async fn wait(sql: &Sql, cache: &mut Cached, most: Duration) -> anyhow::Result<Quiet> {
    let started = Instant::now();
    let mut before = None;
    loop {
        let journal = cache.journal_len().await?;
        let activity = sql.activity().await?;
        let idle = journal == 0 && activity.unfinished == 0 && activity.refreshes == 0;
        let waited_s = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        if idle && before == Some(activity) {
            return Ok(Quiet { waited_s, problem: None });
        }
        if started.elapsed() >= most && before.is_some() {
            let state = format!(
                "{journal} journal entries, {} unfinished ledger rows, {} cache refreshes{}",
                activity.unfinished,
                activity.refreshes,
                if before == Some(activity) { "" } else { ", counts still changing" }
            );
            return Ok(Quiet { waited_s, problem: Some(state) });
        }
        before = Some(activity);
        tokio::time::sleep(POLL).await;
    }
}
