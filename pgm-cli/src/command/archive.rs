//! `pgm-cli archive`: a backup restored into one tar file; also when pgmd is not running.

use std::process::ExitCode;

use pgm_mgmt::{
    ArchiveOptions, Archived, BackupChoice, ClientError, Error, ErrorCode, Request, Response,
};
use pgmd::secrets::master_key;
use pgmd::tarball::{self, Sealing, TarFile};

use super::{Cx, daemon, job, offline, restore};
use crate::arguments::{ArchiveArguments, Format};
use crate::error::CliError;
use crate::output::stdout::out;
use crate::output::{bytes, print_json, seconds};

pub(super) fn run(cx: &Cx, arguments: ArchiveArguments) -> Result<ExitCode, CliError> {
    let direct = arguments.offline || !daemon::is_running(cx)?;
    let detach = arguments.detach;
    let options = ArchiveOptions {
        server: arguments.server,
        backup: BackupChoice::parse(&arguments.backup),
        file: if cx.is_elsewhere() {
            restore::absolute_there(&arguments.file)?
        } else {
            restore::absolute(&arguments.file)?
        },
        target: restore::target(arguments.target),
        force: arguments.force,
    };
    if detach {
        return job::detach(cx, Request::Archive(options));
    }
    let archived = if direct {
        without_daemon(cx, &options)?
    } else {
        match daemon::call(cx, &Request::Archive(options))? {
            Response::Archived(archived) => archived,
            other => return Err(daemon::unexpected(&other)),
        }
    };
    match cx.format {
        Format::Json => print_json(&archived),
        Format::Text => print(&archived),
    }
    Ok(ExitCode::SUCCESS)
}

fn without_daemon(cx: &Cx, options: &ArchiveOptions) -> Result<Archived, CliError> {
    let file = TarFile::parse(&options.file).map_err(ClientError::Refused)?;
    let key = match file.sealing() {
        Sealing::Plain => None,
        Sealing::Sealed => {
            let key = master_key(&cx.config()?.master_key);
            let refused = |error: pgmd::secrets::SecretsError| Error {
                code: ErrorCode::ArchiveFailed,
                text: error.to_string(),
                hint: error.hint(),
            };
            Some(key.map_err(|error| ClientError::Refused(refused(error)))?)
        }
    };
    offline::on_place(cx, &options.server, |context, place| {
        tarball::archive(context, place, options, key.as_ref())
    })
}

fn print(archived: &Archived) {
    out!(
        "archived backup {} of {} in {}: {} files, {} and {} WAL segments as {} in {}",
        archived.label,
        archived.server,
        archived.file,
        archived.files,
        bytes(archived.raw_bytes),
        archived.wal_segments,
        bytes(archived.file_bytes),
        seconds(archived.elapsed_ms as f64 / 1000.0)
    );
    let folder = &archived.folder;
    out!(
        "extract it and start it, and it recovers to {}: pg_ctl -D {folder}/data start",
        archived.target
    );
}
