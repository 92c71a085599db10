//! SQL adapter: ledger, likes, counters, behaviours.
