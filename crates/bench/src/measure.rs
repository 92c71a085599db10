//! The measurements, one file each.

mod accept;
mod apply;
mod batch;
mod growth;
mod history;
mod hot;
mod kept;
mod lag;
mod layers;
mod options;
mod peers;
mod reads;
mod sustained;
mod write_paths;

use crate::report::Report;
use crate::rig::Rig;
use crate::sizes::Sizes;
use anyhow::Result;
use clap::ValueEnum;
use std::path::PathBuf;

/// What measurements share.
pub(crate) struct Bench {
    pub(crate) rig: Rig,
    pub(crate) sizes: Sizes,
    pub(crate) report: Report,
    /// Likes per second that the pipeline sustains, once that was measured.
    pub(crate) sustained: Option<f64>,
    pub(crate) peers_dir: Option<PathBuf>,
}

/// Which one; the letters are those of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// Accepting, one like per call.
    A,
    /// Accepting, a hundred likes per call.
    B,
    /// Draining a full queue.
    C,
    /// End to end, sustained, and what it costs.
    D,
    /// From acceptance to commit.
    E,
    /// Event-driven against synchronous.
    F,
    /// All likes on one resource.
    G,
    /// More and more data.
    H,
    /// Peers.
    I,
    /// Reading.
    K,
    /// What stands in front of every call.
    L,
    /// What retention keeps while likes come.
    M,
    /// Whether anything costs twice as much as it used to.
    N,
}

impl Measurement {
    pub(crate) const ALL: [Self; 13] = [
        Self::A,
        Self::B,
        Self::C,
        Self::D,
        Self::E,
        Self::F,
        Self::G,
        Self::H,
        Self::I,
        Self::K,
        Self::L,
        Self::M,
        Self::N,
    ];

    pub(crate) const fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
            Self::E => "e",
            Self::F => "f",
            Self::G => "g",
            Self::H => "h",
            Self::I => "i",
            Self::K => "k",
            Self::L => "l",
            Self::M => "m",
            Self::N => "n",
        }
    }
}

/// Takes all figures of one measurement.
pub(crate) async fn run(measurement: Measurement, bench: &mut Bench) -> Result<()> {
    match measurement {
        Measurement::A => accept::measure(bench).await,
        Measurement::B => batch::measure(bench).await,
        Measurement::C => apply::measure(bench).await,
        Measurement::D => {
            sustained::measure(bench).await?;
            options::measure(bench).await
        }
        Measurement::E => lag::measure(bench).await,
        Measurement::F => write_paths::measure(bench).await,
        Measurement::G => hot::measure(bench).await,
        Measurement::H => growth::measure(bench).await,
        Measurement::I => peers::measure(bench).await,
        Measurement::K => reads::measure(bench).await,
        Measurement::L => layers::measure(bench).await,
        Measurement::M => history::measure(bench).await,
        Measurement::N => kept::measure(bench).await,
    }
}

/// Figures under a few names, each taken once per run.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<(String, &'static str, Vec<f64>)>);

impl Figures {
    /// One more value.
    pub(crate) fn note(&mut self, what: impl Into<String>, unit: &'static str, value: f64) {
        let what = what.into();
        eprintln!("  {what}: {value:.3} {unit}");
        match self.0.iter_mut().find(|(name, ..)| *name == what) {
            Some((.., values)) => values.push(value),
            None => self.0.push((what, unit, vec![value])),
        }
    }

    /// Values noted so far.
    pub(crate) fn of(&self, what: &str) -> &[f64] {
        self.0.iter().find(|(name, ..)| name == what).map_or(&[], |(.., values)| values)
    }

    /// All of them as rows without targets, in the order in which they came first.
    pub(crate) fn add_to(&self, report: &mut Report, measurement: &str) -> Result<()> {
        self.0.iter().try_for_each(|(what, unit, values)| report.add(measurement, what, unit, values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_order_and_all_values() {
        let mut figures = Figures::default();
        figures.note("b", "1/s", 1.0);
        figures.note("a", "1/s", 2.0);
        figures.note("b", "1/s", 3.0);
        assert_eq!(figures.of("b"), [1.0, 3.0]);
        assert_eq!(figures.of("c"), [] as [f64; 0]);
        assert_eq!(figures.0[0].0, "b");
    }
}
