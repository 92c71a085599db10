//! Operations as users might make them, for load and demonstrations.

pub mod generate;

/// One user and resource, and what the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operation {
    /// Who and what.
    pub pair: domain::Pair,
    /// Like or unlike.
    pub action: domain::Action,
}
