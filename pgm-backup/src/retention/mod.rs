//! Retention: which backups and which WAL stay, and the removal of the rest.
//!
//! [`select`] applies a [`RetentionPolicy`] to the backups of a server and says for each why it stays or that it goes;
//! [`WalNeed`] says which WAL the remaining ones need. Both are calculations without I/O. Whatever is in doubt stays.

mod policy;
mod select;
mod wal_need;

pub use policy::{ParsePolicyError, RULE_MAX, RetentionPolicy};
pub use select::{Candidate, Decision, Mark, Reason, Standing, select};
pub use wal_need::{Keeper, Recovery, WalNeed};
