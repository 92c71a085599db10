//! What people do how often: every share has a name, so that a run can be bent to one purpose.

use std::fmt;

/// A share and what it is of.
#[derive(Debug, Clone, Copy)]
struct Knob {
    name: &'static str,
    /// Where it starts.
    value: f64,
    of: &'static str,
}

const fn knob(name: &'static str, value: f64, of: &'static str) -> Knob {
    Knob { name, value, of }
}

const KNOBS: [Knob; 20] = [
    knob("hot", 0.30, "words about the 16 hot users and 4 hot resources"),
    knob("two_devices", 0.30, "people with two devices"),
    knob("three_devices", 0.10, "people with three devices"),
    knob("together", 0.50, "single words that the other devices of the person answer with a word of their own"),
    knob("elsewhere", 0.80, "such words at another server"),
    knob("fresh_key", 0.40, "single words with a key that is used once"),
    knob("repeated_key", 0.10, "single words that are sent again with their key after the answer"),
    knob("opposite_key", 0.10, "single words whose key is used for the opposite action after the answer"),
    knob("late_repeat", 0.05, "single words that repeat an earlier one with its key, much later"),
    knob("small_batch", 0.48, "calls with 2 to 8 words"),
    knob("large_batch", 0.02, "calls with 64 to 500 words"),
    knob("alternating", 0.30, "batches with 2 to 4 alternating words of one pair"),
    knob("abandon", 0.08, "calls with a deadline of 1 ms to 3 s"),
    knob("cancel", 0.03, "calls that are dropped after 0 to 50 ms"),
    knob("at_once", 0.50, "abandoned callers that go on at once, the others after the limit and up to 1 s more"),
    knob("retry", 0.75, "failed calls that are tried again: with their keys, without, or at another server"),
    knob("reads", 0.20, "calls that read states or counts"),
    knob("look_after", 0.15, "single words after whose answer the state is read, there or elsewhere"),
    knob("unread", 0.25, "streams whose reader stops reading"),
    knob("likes", 0.55, "words that are likes"),
];

/// All shares, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Knobs([f64; KNOBS.len()]);

impl Default for Knobs {
    fn default() -> Self {
        Self(KNOBS.map(|knob| knob.value))
    }
}

impl Knobs {
    /// Sets one from `NAME=SHARE`.
    ///
    /// # Errors
    /// There is no such share, or it is not from 0 to 1.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=SHARE, got {text:?}"))?;
        let at = KNOBS.iter().position(|knob| knob.name == name).ok_or_else(|| {
            let names: Vec<&str> = KNOBS.iter().map(|knob| knob.name).collect();
            format!("no share {name:?}; there are {}", names.join(", "))
        })?;
        self.0[at] = match value.parse::<f64>() {
            Ok(value) if (0.0..=1.0).contains(&value) => value,
            _ => return Err(format!("{name}: expected a number from 0 to 1, got {value:?}")),
        };
        Ok(())
    }

    /// A share by its name.
    pub(super) fn get(&self, name: &str) -> f64 {
        KNOBS.iter().position(|knob| knob.name == name).map_or(0.0, |at| self.0[at])
    }
}

/// Names, values and meanings, one line each.
impl fmt::Display for Knobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KNOBS
            .iter()
            .zip(self.0)
            .try_for_each(|(knob, value)| writeln!(f, "  {:<14} {value:.2}  {}", knob.name, knob.of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_by_name_within_bounds() {
        let mut knobs = Knobs::default();
        knobs.set("abandon=0.5").unwrap();
        assert!((knobs.get("abandon") - 0.5).abs() < 1e-9);
        for bad in ["abandon", "abandon=2", "abandon=x", "abandon=-0.1", "other=0.1"] {
            assert!(knobs.set(bad).is_err(), "{bad}");
        }
        assert!(knobs.to_string().contains("abandon        0.50"), "{knobs}");
    }
}
