//! What `check` looks at on this host: folders, room, and whether the repository knows the server.

use std::path::Path;

use pgm_proto::{Identity, ServerName};
use pgmd::config::Config;

use super::super::offline;
use super::finding::Finding;
use super::rules;

/// Judges the folders that pgmd writes to.
pub(super) fn judge(config: &Config, data_bytes: Option<u64>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let repository = config.repository.place().folder();
    let folders = [
        ("repository", repository.as_ref(), data_bytes),
        ("spool", Some(&config.spool), None),
    ];
    for (what, folder, data) in folders {
        // A far repository has no folder: whether it answers shows with its identity.
        let Some(folder) = folder else {
            continue;
        };
        findings.push(writable(what, folder));
        if let Some(free) = free_bytes(folder) {
            findings.push(rules::room(what, &folder.display().to_string(), free, data));
        }
    }
    findings
}

/// Whether the repository holds this very server, or none yet, under the name.
pub(super) fn identity(
    config: &Config,
    name: &ServerName,
    identity: Option<&Identity>,
) -> Option<Finding> {
    const NAME: &str = "repository identity";
    let seen = identity?.system_id;
    let known = match offline::system_id(config, name) {
        Ok(known) => known?,
        Err(error) => {
            let fix = error
                .hint()
                .unwrap_or_else(|| "look at the repository's folder".into());
            return Some(Finding::failure(NAME, error.to_string(), fix));
        }
    };
    if known == seen {
        return Some(Finding::ok(
            NAME,
            format!("the repository holds this server ({known})"),
        ));
    }
    let fix = "give the new server another name in the configuration, or another repository";
    Some(Finding::failure(
        NAME,
        format!("the repository holds system {known} as {name}, this server is {seen}"),
        fix.into(),
    ))
}

fn writable(what: &'static str, folder: &Path) -> Finding {
    let Some(existing) = nearest_existing(folder) else {
        return Finding::failure(
            what,
            format!("{} has no root", folder.display()),
            format!("mkdir -p {}", folder.display()),
        );
    };
    match rustix::fs::access(
        existing,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    ) {
        Ok(()) if existing.is_dir() => {
            Finding::ok(what, format!("{} is writable", folder.display()))
        }
        Ok(()) => Finding::failure(
            what,
            format!("{} is not a folder", existing.display()),
            format!(
                "mv {0} {0}.old && mkdir -p {1}",
                existing.display(),
                folder.display()
            ),
        ),
        Err(error) => Finding::failure(
            what,
            format!("{} cannot be written to: {error}", existing.display()),
            format!("chown $(id -un) {}", existing.display()),
        ),
    }
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let file_system = rustix::fs::statvfs(nearest_existing(folder)?).ok()?;
    Some(file_system.f_bavail * file_system.f_frsize)
}

fn nearest_existing(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|ancestor| ancestor.exists())
}
