//! Where each object rests in a repository.
//!
//! ```text
//! repository.ron                     format version and id of the repository, and whether it is sealed
//! repository.keys/N                  the data keys of a sealed one: the highest N counts
//! SERVER/server.ron                  system identifier, version, segment size
//! SERVER/lock/PURPOSE/GENERATION     who works on the server
//! SERVER/backup/LABEL/backup.ron     the catalog entry, written last
//! SERVER/backup/LABEL/manifest       every file and where its bytes rest
//! SERVER/backup/LABEL/pg_manifest    the server's own backup_manifest
//! SERVER/backup/LABEL/NNNN.pack      the data
//! SERVER/backup/LABEL/resume/NNNN    what the pack holds, while the backup is not finished
//! SERVER/backup/LABEL/marks/N         whether it is retained, and notes: the highest N counts
//! SERVER/backup/LABEL/verify/N        what verifying it found
//! SERVER/wal/…                       the WAL archive: pgm-wal's
//! ```

use pgm_proto::ServerName;
use pgm_storage::{ObjectPath, PackKind};

use super::Purpose;
use crate::label::BackupLabel;

/// What a pack of a backup's data says that it holds.
pub const DATA_PACK: PackKind = PackKind(1);
/// What a manifest says that it holds.
pub const MANIFEST_PACK: PackKind = PackKind(3);
/// What a server's own manifest says that it holds.
pub const SERVER_MANIFEST_PACK: PackKind = PackKind(4);

/// What a list of a pack's frames says that it holds.
pub const FRAME_LIST_PACK: PackKind = PackKind(5);

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).expect("names of servers and labels are components of paths")
}

/// `repository.ron`.
pub fn repository() -> ObjectPath {
    path("repository.ron")
}

/// `repository.keys`: the folder of the keys. No server has such a name: there are no dots in names of servers.
pub fn keys() -> ObjectPath {
    path("repository.keys")
}

/// `SERVER`: everything of a server.
pub fn server_folder(server: &ServerName) -> ObjectPath {
    path(server.as_str())
}

/// `SERVER/server.ron`.
pub fn server(server: &ServerName) -> ObjectPath {
    path(&format!("{server}/server.ron"))
}

/// `SERVER/lock/PURPOSE`: the folder of a lock.
pub fn lock(server: &ServerName, purpose: Purpose) -> ObjectPath {
    path(&format!("{server}/lock/{purpose}"))
}

/// `SERVER/wal`: the folder of all WAL.
pub fn wal(server: &ServerName) -> ObjectPath {
    path(&format!("{server}/wal"))
}

/// `SERVER/summary`: the folder of what was computed from the WAL.
pub fn summaries(server: &ServerName) -> ObjectPath {
    path(&format!("{server}/summary"))
}

/// `SERVER/backup`: the folder of all backups.
pub fn backups(server: &ServerName) -> ObjectPath {
    path(&format!("{server}/backup"))
}

/// `SERVER/backup/LABEL`: the folder of one backup.
pub fn backup(server: &ServerName, label: BackupLabel) -> ObjectPath {
    path(&format!("{server}/backup/{label}"))
}

/// `SERVER/backup/LABEL/backup.ron`.
pub fn entry(server: &ServerName, label: BackupLabel) -> ObjectPath {
    path(&format!("{server}/backup/{label}/backup.ron"))
}

/// `SERVER/backup/LABEL/manifest`.
pub fn manifest(server: &ServerName, label: BackupLabel) -> ObjectPath {
    path(&format!("{server}/backup/{label}/manifest"))
}

/// `SERVER/backup/LABEL/pg_manifest`.
pub fn server_manifest(server: &ServerName, label: BackupLabel) -> ObjectPath {
    path(&format!("{server}/backup/{label}/pg_manifest"))
}

/// `SERVER/backup/LABEL/NNNN.pack`; more digits when four are not enough.
pub fn pack(server: &ServerName, label: BackupLabel, number: u32) -> ObjectPath {
    path(&format!("{server}/backup/{label}/{number:04}.pack"))
}

/// `SERVER/backup/LABEL/resume`: the folder of the lists of an unfinished backup's frames.
pub fn frame_lists(server: &ServerName, label: BackupLabel) -> ObjectPath {
    path(&format!("{server}/backup/{label}/resume"))
}

/// `SERVER/backup/LABEL/resume/NNNN`: the frames of pack `NNNN`.
pub fn frame_list(server: &ServerName, label: BackupLabel, number: u32) -> ObjectPath {
    path(&format!("{server}/backup/{label}/resume/{number:04}"))
}

/// The pack that a list of frames is about, from its object's path; `None` for every other object.
pub(crate) fn frame_list_number(object: &ObjectPath) -> Option<u32> {
    let (folder, name) = object.as_str().rsplit_once('/')?;
    folder.strip_suffix("/resume")?;
    name.parse().ok()
}

/// The number of a pack, from its object's name; `None` for every other object.
pub(crate) fn pack_number(object: &ObjectPath) -> Option<u32> {
    object.name().strip_suffix(".pack")?.parse().ok()
}

/// `SERVER/backup/LABEL/marks`: the folder of a backup's marks.
pub fn marks(server: &ServerName, label: BackupLabel) -> ObjectPath {
    path(&format!("{server}/backup/{label}/marks"))
}

/// `SERVER/backup/LABEL/verify`: the folder of what verifying a backup found.
pub fn verifications(server: &ServerName, label: BackupLabel) -> ObjectPath {
    path(&format!("{server}/backup/{label}/verify"))
}
