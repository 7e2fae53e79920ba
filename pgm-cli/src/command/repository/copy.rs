//! `pgm-cli repository copy`: backups and WAL from one repository into another, without pgmd.

use std::path::Path;
use std::process::ExitCode;

use pgm_backup::Repository;
use pgm_backup::transfer::{TransferReport, TransferRequest, TransferWal, transfer};
use pgm_proto::{RepositoryName, ServerName};
use pgm_storage::StoreAddress;
use pgmd::config::MasterKeySource;
use pgmd::place::RepositoryPlace;
use pgmd::repository;
use serde_json::json;

use crate::arguments::{CopyArguments, Format};
use crate::command::{Cx, offline, place_at};
use crate::error::{CliError, Failure};
use crate::output::stdout::out;
use crate::output::{bytes, print_json};

pub(super) fn run(cx: &Cx, arguments: &CopyArguments) -> Result<ExitCode, CliError> {
    let from = Side {
        text: &arguments.from,
        credentials: arguments.from_credentials.as_deref(),
        key: arguments.from_master_key.as_ref(),
    };
    let to = Side {
        text: &arguments.to,
        credentials: arguments.to_credentials.as_deref(),
        key: arguments.to_master_key.as_ref(),
    };
    let (from, to) = (from.place(cx)?, to.place(cx)?);
    let from = repository::open(&from).map_err(|error| failed(&error))?;
    let to = repository::open_or_create(&to).map_err(|error| failed(&error))?;
    let servers = match arguments.server.as_slice() {
        [] => from.servers().map_err(|error| failed(&error))?,
        named => named.to_vec(),
    };
    let request = TransferRequest {
        backup: arguments.backup,
        wal: if arguments.no_wal {
            TransferWal::None
        } else {
            TransferWal::All
        },
    };
    let mut reports = Vec::new();
    for server in &servers {
        let report = copy(cx, &from, &to, server, &request)?;
        if cx.format == Format::Text {
            print(&report);
        }
        reports.push(document(&report));
    }
    if cx.format == Format::Json {
        print_json(&json!({ "servers": reports }));
    }
    Ok(ExitCode::SUCCESS)
}

fn copy(
    cx: &Cx,
    from: &Repository,
    to: &Repository,
    server: &ServerName,
    request: &TransferRequest,
) -> Result<TransferReport, CliError> {
    let copied = offline::with_bar(cx, |context| transfer(context, from, to, server, request));
    copied.map_err(|error| failed(&error))
}

/// How one of the two was named.
#[derive(Debug, Clone, Copy)]
struct Side<'a> {
    text: &'a str,
    credentials: Option<&'a Path>,
    key: Option<&'a MasterKeySource>,
}

impl Side<'_> {
    /// A configured repository, or one that is named outright.
    fn place(self, cx: &Cx) -> Result<RepositoryPlace, CliError> {
        if let Ok(name) = self.text.parse::<RepositoryName>() {
            if self.credentials.is_some() || self.key.is_some() {
                let text =
                    format!("credentials and key of `{name}` are those of the configuration");
                let hint = "write a directory as ./NAME".to_owned();
                return Err(CliError::new(Failure::Usage, text, Some(hint)));
            }
            return Ok(cx.config()?.target(&name)?.place);
        }
        let parsed = self.text.parse();
        let address: StoreAddress = parsed.map_err(|error: pgm_storage::ParseAddressError| {
            CliError::new(Failure::Usage, error.to_string(), None)
        })?;
        place_at(&address, self.credentials, self.key)
    }
}

fn print(report: &TransferReport) {
    let there = match report.backups_there {
        0 => String::new(),
        there => format!(" ({there} were there)"),
    };
    out!(
        "copied {} backups of {}{there}: {} objects, {}; {} objects were there",
        report.backups.len(),
        report.server,
        report.objects,
        bytes(report.bytes),
        report.objects_there
    );
}

fn document(report: &TransferReport) -> serde_json::Value {
    let labels: Vec<String> = report.backups.iter().map(ToString::to_string).collect();
    json!({
        "server": report.server,
        "backups": labels,
        "backups_there": report.backups_there,
        "objects": report.objects,
        "objects_there": report.objects_there,
        "bytes": report.bytes,
    })
}

fn failed(error: &pgm_backup::Error) -> CliError {
    offline::refused(repository::failure(error))
}
