//! From the wire to the domain: everything a caller may get wrong is found here, and named.

pub mod convert;
pub mod page;
mod violations;

pub use violations::Violations;
