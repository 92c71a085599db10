//! From the wire to the domain: everything a caller may get wrong is found here, and named.

pub mod convert;
pub(crate) mod lengths;
pub mod page;
pub(crate) mod unread;
mod violations;

pub use violations::Violations;
