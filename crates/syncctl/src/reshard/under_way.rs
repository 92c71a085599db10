//! The note of a reshard that is under way, for whoever runs it again.

use anyhow::{Context, bail};
use domain::{ShardCount, WritePath};

/// What is under way: from which number to which, the order of before, and whether it can be undone.
pub(super) const NOTE: &str = "reshard";

/// A reshard that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub(super) from: ShardCount,
    pub(super) to: ShardCount,
    pub(super) path: Option<WritePath>,
    pub(super) sealing: bool,
}

impl UnderWay {
    pub(super) fn read(text: &str) -> anyhow::Result<Self> {
        let wrong = || format!("the note {NOTE} in sync_meta is {text:?}");
        let parts: Vec<&str> = text.split(' ').collect();
        let [from, to, path, sealing] = parts[..] else { bail!(wrong()) };
        let path = if path == "-" { None } else { Some(path.parse().with_context(wrong)?) };
        let (from, to) = (from.parse().with_context(wrong)?, to.parse().with_context(wrong)?);
        Ok(Self { from, to, path, sealing: sealing == "sealing" })
    }

    pub(super) fn written(&self) -> String {
        let path = self.path.map_or_else(|| "-".to_owned(), |path| path.to_string());
        format!("{} {} {path} {}", self.from, self.to, if self.sealing { "sealing" } else { "draining" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_says_all_that_the_next_run_must_know() {
        let from = ShardCount::new(16).unwrap();
        let to = from.resharded_to(64).unwrap();
        for (path, sealing) in [(None, false), (Some(WritePath::Percentage(25)), true)] {
            let under_way = UnderWay { from, to, path, sealing };
            assert_eq!(UnderWay::read(&under_way.written()).unwrap(), under_way);
        }
        for text in ["", "16 64@1 -", "16 x - draining", "16 64@1 sideways draining"] {
            assert!(UnderWay::read(text).is_err(), "{text}");
        }
    }
}
