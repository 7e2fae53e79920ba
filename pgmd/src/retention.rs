//! Retention as the daemon and the command line without a daemon carry it out: from the typed request to the repository.

use pgm_backup::Context;
use pgm_backup::delete::WalAtHand;
use pgm_backup::retention::{self, Mode, RetentionPolicy, RetentionReport};
use pgm_mgmt::{Error, ErrorCode, RetentionDecision, RetentionOptions, RetentionOutcome};

use pgm_proto::{RepositoryName, ServerName};

use crate::config::Config;
use crate::operations::{Place, refused_as};

/// The request with the policy that it does not name: that of the repository, else the server's own, else the one for all.
pub fn with_policy(
    config: &Config,
    repository: &RepositoryName,
    mut options: RetentionOptions,
) -> RetentionOptions {
    let configured = || policy(config, repository, &options.server).to_string();
    options.policy = Some(options.policy.unwrap_or_else(configured));
    options
}

/// What is kept of the backups of `server` in `repository`.
pub fn policy(
    config: &Config,
    repository: &RepositoryName,
    server: &ServerName,
) -> RetentionPolicy {
    let there = config.repositories.get(repository);
    let own = || {
        config
            .servers
            .get(server)
            .and_then(|server| server.retention)
    };
    there
        .and_then(|repository| repository.retention)
        .or_else(own)
        .unwrap_or(config.retention)
}

/// Applies the policy that `options` names to the backups and the WAL of a server.
pub fn carry_out(
    cx: &Context,
    place: Place<'_>,
    options: &RetentionOptions,
) -> Result<RetentionOutcome, Error> {
    let text = options.policy.as_deref().unwrap_or_default();
    let policy: RetentionPolicy = text.parse().map_err(|error| {
        let error: retention::ParsePolicyError = error;
        Error::new(ErrorCode::BadValue, error.to_string())
            .with_hint("such as: last 3, window 14d, days 7, weeks 4, months 12, years 3")
    })?;
    let opened = place.open()?;
    let wal = WalAtHand {
        archive: &opened.archive,
        spool: opened.spool.as_ref(),
    };
    let mode = if options.dry_run {
        Mode::DryRun
    } else {
        Mode::Apply
    };
    retention::carry_out(cx, &opened.repository, wal, place.server, &policy, mode)
        .map(outcome)
        .map_err(|error| refused_as(&error, ErrorCode::DeleteFailed))
}

fn outcome(report: RetentionReport) -> RetentionOutcome {
    let decision = |decision: &retention::Decision| RetentionDecision {
        label: decision.label.to_string(),
        stays: decision.stays(),
        reasons: decision.reasons.iter().map(ToString::to_string).collect(),
    };
    RetentionOutcome {
        policy: report.policy.to_string(),
        dry_run: report.mode == Mode::DryRun,
        backups: report.decisions.iter().map(decision).collect(),
        deleted_bytes: report.deleted_bytes,
        wal_objects: report.wal.objects,
        wal_bytes: report.wal.bytes,
        warnings: report.warnings,
        server: report.server,
    }
}
