//! Schema of the interaction database.
