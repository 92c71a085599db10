//! What a history may have lost: a file with a line for each excuse.
//!
//! ```text
//! <user>,<v|c>,<id>,<begin>,<end>,<reason>
//! ```
//!
//! Answers about that pair that ended within the window, in microseconds of the history's clock, are taken back.

use crate::UsageError;
use anyhow::Context;
use domain::{Pair, ResourceType};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use traffic::check::Excuse;
use traffic::lines::lines;

pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Excuse>> {
    let unread = || format!("--excuses: could not read {}", path.display());
    let file = File::open(path).with_context(unread)?;
    let wrong = |number: usize, line: &str| {
        UsageError(format!(
            "{}, line {}: expected user,v|c,id,begin,end,reason, got {line:?}",
            path.display(),
            number + 1
        ))
    };
    let excuses = lines(BufReader::new(file)).enumerate().map(|(number, line)| {
        let line = line.with_context(unread)?;
        parse(&line).ok_or_else(|| wrong(number, &line).into())
    });
    excuses.collect()
}

fn parse(line: &str) -> Option<Excuse> {
    let mut fields = line.splitn(6, ',');
    let user = fields.next()?.parse().ok()?;
    let kind = ResourceType::from_letter(fields.next()?)?;
    let pair = Pair::new(user, kind, fields.next()?.parse().ok()?).ok()?;
    let (begin, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let reason = fields.next()?.trim().to_owned();
    (begin <= end && !reason.is_empty()).then_some(Excuse { pair, begin, end, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_pair_window_and_reason() {
        let excuse = parse("7,c,9,100,200,flushed, while the broker was away").unwrap();
        assert_eq!((excuse.pair.to_string().as_str(), excuse.begin, excuse.end), ("user 7 comment:9", 100, 200));
        assert_eq!(excuse.reason, "flushed, while the broker was away");
        for bad in ["", "7,c,9,200,100,backwards", "7,x,9,1,2,r", "7,c,9,1,2", "7,c,9,1,2, ", "0,c,9,1,2,r"] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
