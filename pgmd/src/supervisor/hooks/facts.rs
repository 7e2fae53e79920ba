//! What a hook is told: variables that begin with `PGM_`.

use std::collections::BTreeMap;

use pgm_mgmt::{BackupChoice, Error, ErrorCode, JobId, Response};

use crate::worker::{Description, Task};

/// How long a text in a variable may be.
const TEXT_BYTES_MAX: usize = 4096;

/// As it was asked for: `newest`, `oldest` or a label.
fn choice(backup: &BackupChoice) -> &str {
    match backup {
        BackupChoice::Newest => "newest",
        BackupChoice::Oldest => "oldest",
        BackupChoice::Label(label) => label,
    }
}

/// The variables.
#[derive(Debug)]
pub(super) struct Facts(BTreeMap<&'static str, String>);

impl Facts {
    /// What is known before the operation.
    pub(super) fn before(event: &str, job: JobId, description: &Description) -> Self {
        let mut facts = Self(BTreeMap::new());
        facts.set("PGM_EVENT", event);
        facts.set("PGM_JOB", &job.to_string());
        facts.set("PGM_SERVER", description.server.as_str());
        facts.set("PGM_REPOSITORY", &description.repository().to_string());
        match &description.task {
            Task::Restore { options } => facts.set("PGM_DIRECTORY", &options.directory),
            Task::Standby { options } => {
                facts.set("PGM_STANDBY", &options.name);
                facts.set("PGM_DIRECTORY", &options.directory.display().to_string());
            }
            Task::Delete { backup, .. } => facts.set("PGM_BACKUP", choice(backup)),
            _ => {}
        }
        facts
    }

    /// And after it.
    pub(super) fn after(
        event: &str,
        job: JobId,
        description: &Description,
        outcome: &Result<Response, Error>,
    ) -> Self {
        let mut facts = Self::before(event, job, description);
        match outcome {
            Ok(response) => {
                facts.set("PGM_STATUS", "ok");
                facts.tell(response);
            }
            Err(error) => {
                let status = match error.code {
                    ErrorCode::Cancelled => "cancelled",
                    _ => "failed",
                };
                facts.set("PGM_STATUS", status);
                facts.set("PGM_ERROR_CODE", error.code.name());
                facts.set("PGM_ERROR", &error.text);
            }
        }
        facts
    }

    /// The variables.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn tell(&mut self, response: &Response) {
        match response {
            Response::BackedUp(backup) => {
                self.set("PGM_LABEL", &backup.label);
                self.set("PGM_RAW_BYTES", &backup.raw_bytes.to_string());
                self.set("PGM_STORED_BYTES", &backup.stored_bytes.to_string());
                self.set("PGM_TIMELINE", &backup.timeline.to_string());
                self.set("PGM_START_LSN", &backup.start_lsn.to_string());
                self.set("PGM_END_LSN", &backup.end_lsn.to_string());
            }
            Response::Restored(restored) => {
                self.set("PGM_LABEL", &restored.label);
                self.set("PGM_DIRECTORY", &restored.directory);
                self.set("PGM_RAW_BYTES", &restored.raw_bytes.to_string());
                self.set("PGM_FILES", &restored.files.to_string());
                self.set("PGM_TARGET", &restored.target);
            }
            Response::StandbyUpdated(standby) => {
                self.set("PGM_RESULT", standby.result.name());
                self.set("PGM_LABEL", standby.label.as_deref().unwrap_or_default());
                self.set("PGM_RAW_BYTES", &standby.raw_bytes.to_string());
                self.set("PGM_FILES", &standby.files.to_string());
            }
            Response::Deleted(deleted) => {
                self.set("PGM_LABEL", &deleted.label);
                self.set("PGM_STORED_BYTES", &deleted.bytes.to_string());
            }
            Response::Archived(archived) => {
                self.set("PGM_LABEL", &archived.label);
                self.set("PGM_FILE", &archived.file);
                self.set("PGM_RAW_BYTES", &archived.raw_bytes.to_string());
                self.set("PGM_STORED_BYTES", &archived.file_bytes.to_string());
                self.set("PGM_TARGET", &archived.target);
            }
            _ => {}
        }
    }

    /// A variable cannot hold a zero byte, and a text from afar is not let grow.
    fn set(&mut self, name: &'static str, value: &str) {
        let end = value.floor_char_boundary(TEXT_BYTES_MAX.min(value.len()));
        self.0.insert(name, value[..end].replace('\0', ""));
    }
}
