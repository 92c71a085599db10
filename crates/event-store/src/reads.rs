//! Questions that span tables: lists of likes, audits, and one pair's history.

pub(crate) mod audit;
pub(crate) mod errors;
pub(crate) mod gains;
pub(crate) mod history;
pub(crate) mod lag;
pub(crate) mod likes;
pub(crate) mod standing;
