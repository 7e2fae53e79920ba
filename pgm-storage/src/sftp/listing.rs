//! Listing: every object below a folder, in the order of the paths' text, one folder's names in memory at a time.
//!
//! Hidden names (writers at work) and names that no object can have are passed over. A symbolic link or a special file
//! among the objects is an error: what is behind it would be missing from the list.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use russh_sftp::protocol::FileAttributes;

use super::server::Server;
use super::session;
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::storage::ObjectMeta;

/// The age from which a temporary file is nobody's: a live writer's grows all the time.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);

/// The names in `folder`; none when there is no such folder.
fn names(server: &Server, folder: &ObjectPath) -> Result<Vec<(String, FileAttributes)>> {
    let file = server.file_or_root(folder);
    let found = server.ask("list", folder, move |session| {
        let file = file.clone();
        async move { session.names(file).await }
    });
    match found {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        found => found,
    }
}

/// Gives every object below `folder` to `visit`.
pub(super) fn walk(
    server: &Server,
    folder: &ObjectPath,
    visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    // A folder sorts by its name with a slash behind it: this is what paths below it sort by.
    let mut entries: Vec<(String, ObjectPath, FileAttributes)> = names(server, folder)?
        .into_iter()
        .filter_map(|(name, found)| {
            let path = folder.join(&name).ok().filter(|path| path.name() == name)?;
            let slash = if found.file_type().is_dir() { "/" } else { "" };
            Some((format!("{name}{slash}"), path, found))
        })
        .collect();
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (_, path, found) in entries {
        let flow = if found.file_type().is_dir() {
            walk(server, &path, visit)?
        } else {
            session::check_file(&found, &server.place(&path))?;
            visit(session::meta(path, &found))
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The names of the folders directly in `folder`.
pub(super) fn folders(server: &Server, folder: &ObjectPath) -> Result<Vec<String>> {
    let mut folders: Vec<String> = names(server, folder)?
        .into_iter()
        .filter(|(name, found)| found.file_type().is_dir() && ObjectPath::parse(name).is_ok())
        .map(|(name, _)| name)
        .collect();
    folders.sort_unstable();
    Ok(folders)
}

/// Removes temporary files that are too old to be on their way.
pub(super) fn sweep(server: &Server, folder: &ObjectPath) -> Result<u64> {
    let mut swept = 0;
    for (name, found) in names(server, folder)? {
        if found.file_type().is_dir() {
            if let Ok(child) = folder.join(&name) {
                swept += sweep(server, &child)?;
            }
            continue;
        }
        let is_temporary = name
            .strip_prefix(".pgm-")
            .is_some_and(|rest| rest.strip_suffix(".tmp").is_some());
        let age = SystemTime::now().duration_since(session::modified(&found));
        if is_temporary && age.is_ok_and(|age| age > LEFTOVER_AGE) {
            let file = format!("{}/{name}", server.file_or_root(folder));
            let removed = server.ask("delete", folder, move |session| {
                let file = file.clone();
                async move { session.remove(file).await }
            });
            match removed {
                Err(StorageError::NotFound { .. }) => {}
                removed => {
                    removed?;
                    swept += 1;
                }
            }
        }
    }
    Ok(swept)
}
