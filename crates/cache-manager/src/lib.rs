//! Redis adapter: Lua scripts behind typed calls.
