//! What a listener makes of changes, and what it should have made of them.

use crate::Deployment;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// Of each subject its number (version or revision) and state (`true`, `false` or a count).
pub type ChangeStates = BTreeMap<String, (i64, String)>;

/// Keeps the state with the highest number of each subject.
#[derive(Debug, Default)]
pub struct ChangeView {
    /// As heard.
    pub states: ChangeStates,
    /// Names of all events, as they came.
    pub ids: Vec<String>,
}

impl ChangeView {
    /// Hears one message.
    ///
    /// # Errors
    /// It is not as it is described, or tells two states of one number.
    pub fn hear(&mut self, key: &str, body: &[u8]) -> Result<()> {
        let events: Vec<Value> = serde_json::from_slice(body)?;
        ensure!(!events.is_empty(), "an empty message");
        for event in events {
            self.take(key, &event).with_context(|| event.to_string())?;
        }
        Ok(())
    }

    fn take(&mut self, key: &str, event: &Value) -> Result<()> {
        let data = &event["data"];
        let (what, number, state) = match data["liked"].as_bool() {
            Some(liked) => (if liked { "like" } else { "unlike" }, text(&data["version"])?, liked.to_string()),
            None => ("count", text(&data["revision"])?, text(&data["count"])?),
        };
        ensure!(key == format!("{}.{what}", text(&data["type"])?), "came by {key}");
        self.ids.push(text(&event["id"])?);
        let number: i64 = number.parse()?;
        let held = self.states.entry(text(&event["subject"])?).or_insert((number, state.clone()));
        ensure!(held.0 != number || held.1 == state, "another state of this number was {}", held.1);
        if number > held.0 {
            *held = (number, state);
        }
        Ok(())
    }
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("no text")
}

impl Deployment {
    /// What a listener should have, by the database: every pair and every counter that was ever written.
    pub async fn change_states(&self) -> Result<ChangeStates> {
        let word = "version, IF(deleted_at IS NULL, 'true', 'false')";
        let text = self
            .sql(&format!(
                "SELECT CONCAT('video/', video_id, '/user/', user_id), {word} FROM video_likes;\n\
                 SELECT CONCAT('comment/', comment_id, '/user/', user_id), {word} FROM comment_likes;\n\
                 SELECT CONCAT(resource_type, '/', resource_id), revision, like_count FROM like_counts WHERE revision > 0"
            ))
            .await?;
        let line = |line: &str| {
            let mut words = line.split('\t');
            let mut next = || words.next().context("too few columns");
            Ok((next()?.to_owned(), (next()?.parse()?, next()?.to_owned())))
        };
        text.lines().map(line).collect()
    }
}
