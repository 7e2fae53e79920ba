//! `pgm-cli admin`: the master key, and users. Works on the files, so with and without pgmd; a running pgmd is told.

mod master_key;
mod password;
mod user;

use std::process::ExitCode;

use pgm_mgmt::{Client, ClientError, Deadlines, Request};
use pgmd::audit::{Outcome, Record};
use pgmd::config::{Config, OsUser};
use pgmd::secrets::SecretsError;

use super::Cx;
use crate::arguments::admin::AdminCommand;
use crate::error::{CliError, Failure};

pub(super) fn run(cx: &Cx, command: AdminCommand) -> Result<ExitCode, CliError> {
    match command {
        AdminCommand::MasterKey(arguments) => master_key::run(cx, &arguments),
        AdminCommand::User(command) => user::run(cx, command),
    }
}

/// Notes in the audit log what was done here. That it cannot be is worth a warning: it is done already.
pub(super) fn note(config: &Config, record: Record) {
    let record = record.outcome(&Outcome::Ok);
    if let Err(error) = pgmd::audit::append(&config.audit_log, &record) {
        let path = config.audit_log.display();
        eprintln!("warning: the audit log {path} cannot be written: {error}");
    }
}

/// The beginning of a record: who does it, and that it was done on pgmd's own host.
pub(super) fn record(action: &str) -> Record {
    Record::new(action, "command line").by(OsUser::current().name, None)
}

/// Lets a pgmd that runs read the users again. That none runs is fine; that it cannot is worth a warning, since the
/// files have changed already.
fn tell_daemon(config: &Config) {
    let answer = Client::connect(&config.socket(), Deadlines::default())
        .and_then(|mut client| client.call(&Request::ReloadUsers));
    match answer {
        Ok(_) | Err(ClientError::Connect { .. }) => {}
        Err(error) => {
            eprintln!("warning: pgmd does not know yet: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("HINT: {hint}");
            }
        }
    }
}

impl From<SecretsError> for CliError {
    fn from(error: SecretsError) -> Self {
        let failure = match &error {
            SecretsError::Missing { .. } | SecretsError::UnknownUser { .. } => Failure::NotFound,
            SecretsError::Password { .. } | SecretsError::UserExists { .. } => Failure::Usage,
            _ => Failure::Failed,
        };
        let hint = error.hint();
        Self::new(failure, error, hint)
    }
}
