//! Erased users in what operators wrote: their numbers give way.

use crate::sql::error::StoreError;
use crate::sql::script::Script;
use crate::sql::store::{EventStore, get, rows};
use crate::tables::fences::Erasure;
use crate::tables::ledger::uuid_of;
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::Erased;

const ACTIONS: &str = "operator_actions";

impl EventStore {
    /// Of the rows of a range of the key; gives how many name one of them.
    pub(crate) async fn redact_actions(&self, range: &Script, of: &[Erasure], remove: bool) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT id, selection, reason, action, created_at").words(range.as_str());
        let results = self.read(&script).await?;
        let number = |erasure: &Erasure| match erasure.fence.of {
            Erased::User(user) => Some((user.to_string(), erasure.cleaned_at)),
            Erased::Resource(_) => None,
        };
        let all: Vec<(String, Option<DateTime<Utc>>)> = of.iter().filter_map(number).collect();
        let mut script = self.script();
        let mut found = 0;
        for row in rows(&results, 0) {
            let text = |column| get::<Option<String>>(row, column, ACTIONS);
            // There stands the number of a resource.
            let keeps = text(3)?.is_some_and(|action| action.ends_with("_resource"));
            // What was written after the end is of whoever came again.
            let created = get::<NaiveDateTime>(row, 4, ACTIONS)?.and_utc();
            let before_end = |(_, ended): &&(String, Option<DateTime<Utc>>)| ended.is_none_or(|ended| created <= ended);
            let numbers: Vec<&str> = all.iter().filter(before_end).map(|(number, _)| number.as_str()).collect();
            let redacted = [(text(1)?, Text::Selection), (text(2)?, Text::Reason)].map(|(text, of)| {
                let stays = keeps && of == Text::Selection;
                text.map(|text| (if stays { text.clone() } else { redact(&text, of, &numbers) }, text))
            });
            if redacted.iter().flatten().all(|(after, before)| after == before) {
                continue;
            }
            found += 1;
            let [selection, reason] = redacted.map(|text| text.map(|(after, _)| after));
            script.begin("UPDATE operator_actions SET selection = ").text_or_null(selection.as_deref());
            script.words(", reason = ").text_or_null(reason.as_deref()).words(" WHERE id = ");
            script.uuid(uuid_of(&get::<Vec<u8>>(row, 0, ACTIONS)?)?);
        }
        if remove {
            self.write("redact_actions", &script).await?;
        }
        Ok(found)
    }
}

/// Where a number stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    /// In words of ours: other numbers are limits and resources.
    Selection,
    /// In words of an operator: each number may be that of a user.
    Reason,
}

/// Numbers of users, where they stand alone, give way.
fn redact(text: &str, of: Text, numbers: &[&str]) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (word, after) = if digits > 0 {
            rest.split_at(digits)
        } else {
            rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()))
        };
        let is_user = of == Text::Reason || redacted.ends_with(" user ");
        redacted.push_str(if digits > 0 && is_user && numbers.contains(&word) { "[erased]" } else { word });
        rest = after;
    }
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_of_the_erased_give_way() {
        let numbers = ["7", "12"];
        let (selection, reason) = (Text::Selection, Text::Reason);
        let [ours, without] = ["at most 7 dead by user 7 of video:12", "at most 7 dead by user [erased] of video:12"];
        assert_eq!(redact(ours, selection, &numbers), without);
        assert_eq!(redact("at most 77 dead by user 77", selection, &numbers), "at most 77 dead by user 77");
        assert_eq!(redact("7: 12,712;12", reason, &numbers), "[erased]: [erased],712;[erased]");
        assert_eq!(redact("no number, ünï", reason, &numbers), "no number, ünï");
    }
}
