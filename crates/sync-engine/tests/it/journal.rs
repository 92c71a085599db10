//! The journal is the truth: what nobody relayed is rescued, and a mere backlog is not multiplied.
