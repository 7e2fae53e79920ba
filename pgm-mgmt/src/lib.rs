//! pgm's management protocol, shared by the daemon and the command line.
//!
//! A client sends one [`Request`] and reads [`Event`]s until a [`Response`] or an [`Error`] ends the exchange; then it
//! may send the next. Every message is one frame (see [`frame`]) with a RON payload. `docs/management.md` describes the
//! protocol for people who write another client.
//!
//! ```no_run
//! use std::path::Path;
//! use pgm_mgmt::{Client, Deadlines, Request, Response};
//!
//! let mut client = Client::connect(Path::new("/var/lib/pgm/run/.s.pgmd"), Deadlines::default())?;
//! if let Response::Status(status) = client.call(&Request::Status { server: None })? {
//!     println!("{} servers", status.servers.len());
//! }
//! # Ok::<(), pgm_mgmt::ClientError>(())
//! ```
//!
//! What this crate never does: open a repository, read a configuration, know how a job is carried out.

pub mod frame;

mod archive;
mod client;
mod delete;
mod details;
mod error_code;
mod event;
mod hello;
mod jobs;
mod marks;
mod mode;
mod place;
mod request;
mod response;
mod restore;
mod retention;
mod role;
mod settings;
mod standby;
mod users;
mod verify;
mod window;

pub use archive::{ArchiveOptions, Archived};
pub use client::{Client, ClientError, Deadlines};
pub use delete::Deleted;
pub use details::{
    MediumDetails, RestorePoint, ServerDetails, StatusDetails, WalStretch, WrittenSetting,
};
pub use error_code::{Error, ErrorCode};
pub use event::{Event, JobId, JobKind, JobProgress, MessageLevel};
pub use frame::{Frame, FrameError, MessageId};
pub use hello::{Hello, PROTOCOL_VERSIONS, Welcome};
pub use jobs::{JobList, JobMessage, JobRecord, JobScope, JobState, StartedJob};
pub use marks::{Annotation, AnnotationChange, BackupMarks};
pub use mode::{ModeReport, ServerMode};
pub use place::DaemonPlace;
pub use request::{
    BackupChoice, BackupOptions, BackupSource, Request, RestoreOptions, RestoreTarget,
    TablespaceMapping, TargetAction, TargetPoint,
};
pub use response::{
    BackupDetails, BackupList, BackupStatus, BackupSummary, BasisSummary, Cleared, DaemonStatus,
    Gap, Pong, RepositoryStatus, Response, RunningJobs, ServerBackups, ServerState, ServerStatus,
    Stopping, TablespaceSummary, UnreadableRepository,
};
pub use restore::{PlannedRestore, PlannedTransaction, RestoreOutcome, RestoreRead};
pub use retention::{RetentionDecision, RetentionOptions, RetentionOutcome};
pub use role::{Access, Reach, Role};
pub use settings::{
    Reloaded, SettingChange, SettingEffect, SettingList, SettingReload, SettingSet, SettingSource,
    SettingValue,
};
pub use standby::{StandbyOutcome, StandbyResult, StandbyStatus};
pub use users::UsersReloaded;
pub use verify::{
    CheckOutcome, Finding, FindingArea, ListedFiles, ProvenRecovery, TrialCheck, TrialOptions,
    TrialSummary, VerificationSummary, Verified, VerifiedBackup, VerifiedFile, VerifyLevel,
    VerifyOptions, VerifyOutcome,
};
pub use window::RecoveryWindow;

/// The newest version of the protocol that this crate speaks; [`Pong`] carries the daemon's.
pub const PROTOCOL_VERSION: u32 = 1;

/// The name of the only database that a daemon knows when it is asked in PostgreSQL's protocol.
pub const DATABASE: &str = "pgm";

/// The port that remote management has by custom.
pub const PORT: u16 = 5435;
