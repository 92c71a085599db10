//! Where an event stands.

use domain::Invalid;

/// State of an event in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventStatus {
    /// Known and not tried yet.
    Pending,
    /// Claimed by a worker until its lease ends.
    Processing,
    /// In the rows and counters.
    Completed,
    /// Waits for its next retry.
    Failed,
    /// Given up, until an operator replays it.
    Dead,
    /// Given up for good by an operator: whatever brings it again, it is not applied.
    Discarded,
}

impl EventStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Processing, Self::Completed, Self::Failed, Self::Dead, Self::Discarded];

    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
        }
    }
}

impl std::str::FromStr for EventStatus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| Invalid::new("status", format!("unknown status {text:?}")))
    }
}

impl std::fmt::Display for EventStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
