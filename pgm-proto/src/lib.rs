//! PostgreSQL's wire and replication protocol, seen from a client that backs servers up.

mod lsn;
mod name;
mod secret;
mod system_id;
mod timeline;
mod version;

pub use lsn::{Lsn, ParseLsnError};
pub use name::{ParseNameError, ServerName, SlotName};
pub use secret::Secret;
pub use system_id::SystemId;
pub use timeline::{ParseTimelineError, TimelineId};
pub use version::ServerVersion;
