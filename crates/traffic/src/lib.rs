//! Operations as users might make them, what became of them, and whether that kept the promises.
//!
//! [`generate`] makes operations for load and demonstrations. [`history`] is the record of a run, attempt by attempt;
//! [`mod@check`] judges such a record together with what the stores hold at the end. Recorder and checker know nothing of
//! each other but the record, so one checker serves load, chaos, simulation and model alike.

pub mod check;
pub mod generate;
pub mod history;
pub mod lines;
pub mod record_file;

/// One user and resource, and what the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operation {
    /// Who and what.
    pub pair: domain::Pair,
    /// Like or unlike.
    pub action: domain::Action,
}
