//! Rows of figures, their targets, and where they are shown and kept.

use crate::numbers::summary;
use crate::sizes::Sizes;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a median must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Target {
    fn is_met(self, median: f64) -> bool {
        match self {
            Self::AtLeast(bound) => median >= bound,
            Self::AtMost(bound) => median <= bound,
            Self::Below(bound) => median < bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {}", figure(bound)),
            Self::AtMost(bound) => format!("<= {}", figure(bound)),
            Self::Below(bound) => format!("< {}", figure(bound)),
        }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Letter of the measurement.
    measurement: String,
    what: String,
    /// Empty for a ratio.
    unit: String,
    median: f64,
    min: f64,
    max: f64,
    /// In the order in which they were taken; infinite ones are beyond what could be measured.
    values: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

impl Row {
    fn line(&self) -> String {
        let target = self.target.map(Target::text).unwrap_or_default();
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        };
        let range = format!("{} .. {}", figure(self.min), figure(self.max));
        format!(
            "{} {:<52} {:>11} {:<9} {:>25} {:>12} {}",
            self.measurement,
            self.what,
            figure(self.median),
            self.unit,
            range,
            target,
            met
        )
    }
}

/// All figures.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// On what it was measured.
    machine: serde_json::Value,
    sizes: serde_json::Value,
    rows: Vec<Row>,
}

impl Report {
    /// Earlier rows; none if there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
    }

    pub(crate) fn describe(&mut self, sizes: &Sizes) {
        let line = |path: &str, key: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let found = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
            found.map(|line| line.split_once(':').map_or(line.clone(), |(_, value)| value.trim().to_owned()))
        };
        self.machine = serde_json::json!({
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "cpu": line("/proc/cpuinfo", "model name"),
            "memory": line("/proc/meminfo", "MemTotal"),
            "kernel": line("/proc/sys/kernel/osrelease", ""),
        });
        self.sizes = serde_json::to_value(sizes).unwrap_or_default();
    }

    /// Forgets earlier rows of a measurement.
    pub(crate) fn begin(&mut self, measurement: &str) {
        eprintln!("measuring {measurement}");
        self.rows.retain(|row| row.measurement != measurement);
    }

    /// A figure without a target.
    pub(crate) fn add(&mut self, measurement: &str, what: impl Into<String>, unit: &str, values: &[f64]) -> Result<()> {
        self.push(measurement, what.into(), unit, values, None)
    }

    /// A figure whose median has a target.
    pub(crate) fn judge(
        &mut self,
        measurement: &str,
        what: impl Into<String>,
        unit: &str,
        values: &[f64],
        target: Target,
    ) -> Result<()> {
        self.push(measurement, what.into(), unit, values, Some(target))
    }

    fn push(
        &mut self,
        measurement: &str,
        what: String,
        unit: &str,
        values: &[f64],
        target: Option<Target>,
    ) -> Result<()> {
        let all = summary(values).with_context(|| format!("{measurement}: {what}: no figures in {values:?}"))?;
        // JSON has no infinity.
        let finite = |value: f64| if value.is_finite() { value } else { f64::MAX };
        self.rows.push(Row {
            measurement: measurement.to_owned(),
            what,
            unit: unit.to_owned(),
            median: finite(all.median),
            min: finite(all.min),
            max: finite(all.max),
            values: values.iter().copied().map(finite).collect(),
            target,
            met: target.map(|target| target.is_met(all.median)),
        });
        self.rows.sort_by(|one, other| one.measurement.cmp(&other.measurement));
        Ok(())
    }

    pub(crate) fn print_part(&self, measurement: &str) {
        self.rows.iter().filter(|row| row.measurement == measurement).for_each(|row| println!("{}", row.line()));
        println!();
    }

    /// Whether the targets of a measurement are met; a measurement without any meets none.
    pub(crate) fn meets(&self, measurement: &str) -> bool {
        let mut judged =
            self.rows.iter().filter(|row| row.measurement == measurement).filter_map(|row| row.met).peekable();
        judged.peek().is_some() && judged.all(|met| met)
    }

    pub(crate) fn print_targets(&self) {
        let judged: Vec<&Row> = self.rows.iter().filter(|row| row.met.is_some()).collect();
        let met = judged.iter().filter(|row| row.met == Some(true)).count();
        println!("targets: {met} of {} met", judged.len());
        judged.iter().filter(|row| row.met == Some(false)).for_each(|row| println!("{}", row.line()));
    }
}

/// Four digits that count; large numbers whole.
fn figure(value: f64) -> String {
    let size = value.abs();
    if size >= 1e300 {
        "beyond".to_owned()
    } else if size >= 1000.0 || value == value.trunc() {
        format!("{value:.0}")
    } else if size >= 100.0 {
        format!("{value:.1}")
    } else if size >= 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_rows() -> Report {
        let mut report = Report::default();
        report.add("b", "likes", "1/s", &[3.0, 1.0, 2.0]).unwrap();
        report.judge("a", "ratio", "", &[0.5, 0.3], Target::AtLeast(0.4)).unwrap();
        report
    }

    #[test]
    fn targets_are_judged_by_the_median() {
        let mut report = two_rows();
        assert_eq!((report.rows[0].what.as_str(), report.rows[0].met), ("ratio", Some(true)));
        assert_eq!((report.rows[1].median, report.rows[1].met), (2.0, None));
        assert!(report.meets("a") && !report.meets("b"), "b has no target");
        report.judge("a", "worse", "", &[9.0], Target::AtMost(8.0)).unwrap();
        assert!(!report.meets("a"));
        assert!(!Target::Below(10.0).is_met(10.0) && Target::AtMost(10.0).is_met(10.0));
        assert!(!Target::AtLeast(0.4).is_met(0.399));
    }

    #[test]
    fn other_measurements_stay_in_the_file() {
        let file = std::env::temp_dir().join(format!("bench-report-{}.json", std::process::id()));
        two_rows().write(&file).unwrap();
        let mut report = Report::read(&file).unwrap();
        assert_eq!(report.rows, two_rows().rows);
        report.begin("a");
        report.add("a", "new", "", &[1.0]).unwrap();
        let seen: Vec<&str> = report.rows.iter().map(|row| row.what.as_str()).collect();
        assert_eq!(seen, ["new", "likes"]);
        std::fs::remove_file(&file).unwrap();
        assert!(Report::read(&file).unwrap().rows.is_empty());
    }

    #[test]
    fn what_is_no_number_is_refused_and_infinity_survives_json() {
        let mut report = Report::default();
        assert!(report.add("a", "x", "", &[]).is_err());
        assert!(report.add("a", "x", "", &[f64::NAN]).is_err());
        report.judge("a", "lag", "ms", &[f64::INFINITY], Target::Below(10.0)).unwrap();
        let text = serde_json::to_string(&report).unwrap();
        assert!(serde_json::from_str::<Report>(&text).is_ok());
        assert_eq!(report.rows[0].met, Some(false));
    }

    #[test]
    fn figures_have_four_digits() {
        let seen = [0.41236, 2.71928, 27.1828, 271.828, 27182.8, 5.0, f64::MAX].map(figure);
        assert_eq!(seen, ["0.412", "2.719", "27.18", "271.8", "27183", "5", "beyond"]);
    }
}
