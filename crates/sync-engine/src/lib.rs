//! Accept, relay, apply, settle, retry: the protocol over ports.
