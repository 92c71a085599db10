//! Bars of long commands, on standard error of a terminal. Each ends at its total: what came or went meanwhile counts.

use crate::output::Format;
use indicatif::{ProgressBar, ProgressStyle};

/// Of so many things.
pub(crate) fn bar(total: u64, format: Format) -> ProgressBar {
    if format != Format::Table {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    counts(&bar);
    bar
}

/// Of what nobody can count before.
pub(crate) fn spinner(format: Format) -> ProgressBar {
    if format == Format::Table { ProgressBar::new_spinner() } else { ProgressBar::hidden() }
}

/// Shows a bar with numbers from now on.
pub(crate) fn counts(bar: &ProgressBar) {
    let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {msg} {per_sec} eta {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
}

/// So many are done, of so many or more.
pub(crate) fn reach(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total.max(done));
    bar.set_position(done);
}

/// The work is over, done or interrupted: what was done is the total, and stays on the screen. A spinner goes.
pub fn finish(bar: &ProgressBar) {
    if bar.length().is_some() {
        bar.set_length(bar.position());
        bar.abandon();
    } else {
        bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_ends_at_its_total() {
        for done in [7, 10, 12] {
            let bar = ProgressBar::hidden();
            reach(&bar, 0, 10);
            reach(&bar, done, 10);
            assert_eq!(bar.length(), Some(done.max(10)));
            finish(&bar);
            assert_eq!((bar.position(), bar.length(), bar.is_finished()), (done, Some(done), true));
        }
    }
}
