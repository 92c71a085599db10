//! Wrong versions, for tests that must find them (see [`planted_bugs`]).

use lapin::Confirmation;
use planted_bugs::planted;

/// A message that was refused or returned counts as published.
pub(crate) fn ignore_nack(confirmation: Confirmation) -> Confirmation {
    planted!("ignore_nack" => Confirmation::Ack(None));
    confirmation
}

/// The redo log gets no copy of what goes to the queue.
pub(crate) fn log_skipped() -> bool {
    planted!("log_skipped" => true);
    false
}
