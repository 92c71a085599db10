//! Erased users in what operators wrote: their numbers give way.

use crate::sql::error::StoreError;
use crate::sql::script::Script;
use crate::sql::store::{EventStore, get, rows};
use crate::tables::fences::Erasure;
use crate::tables::ledger::uuid_of;
use domain::Erased;

const ACTIONS: &str = "operator_actions";

impl EventStore {
    /// Of the rows of a range of the key; gives how many name one of them.
    pub(crate) async fn redact_actions(&self, range: &Script, of: &[Erasure], remove: bool) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT id, selection, reason, action").words(range.as_str());
        let results = self.read(&script).await?;
        let number = |erasure: &Erasure| match erasure.fence.of {
            Erased::User(user) => Some(user.to_string()),
            Erased::Resource(_) => None,
        };
        let numbers: Vec<String> = of.iter().filter_map(number).collect();
        let mut script = self.script();
        let mut found = 0;
        for row in rows(&results, 0) {
            let text = |column| get::<Option<String>>(row, column, ACTIONS);
            // There stands the number of a resource.
            let keeps = text(3)?.is_some_and(|action| action.ends_with("_resource"));
            let redacted = [(text(1)?, keeps), (text(2)?, false)].map(|(text, keeps)| {
                text.map(|text| (if keeps { text.clone() } else { redact(&text, &numbers) }, text))
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

/// Numbers of users, where they stand alone, give way.
fn redact(text: &str, numbers: &[String]) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (word, after) = if digits > 0 {
            rest.split_at(digits)
        } else {
            rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()))
        };
        redacted.push_str(if digits > 0 && numbers.iter().any(|number| number == word) { "[erased]" } else { word });
        rest = after;
    }
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_of_the_erased_give_way() {
        let numbers = ["7".to_owned(), "12".to_owned()];
        assert_eq!(redact("at most 77 dead by user 7", &numbers), "at most 77 dead by user [erased]");
        assert_eq!(redact("7: 12,712;12", &numbers), "[erased]: [erased],712;[erased]");
        assert_eq!(redact("no number, ünï", &numbers), "no number, ünï");
    }
}
