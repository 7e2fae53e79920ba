//! Hands out what the workers of a restore fetch, in the order of the `window`.

use std::fs::File;
use std::sync::Arc;

use super::destination::{Creation, Destination};
use super::error::RestoreError;
use super::place::{CONTROL_FILE, Placed, Shared};
use super::queue::Queue;
use super::roots::Found;
use super::window::{Piece, Window};
use crate::manifest::{FileEntry, ManifestEntry, ManifestReader};

/// Files below this are not preallocated.
const PREALLOCATE_MIN: u64 = 2 << 20;

/// Reads the manifest and hands out frames.
pub(super) struct Dispatcher<'a> {
    shared: &'a Shared<'a>,
    queue: &'a Queue,
    window: Window,
    pub(super) placed: Placed,
}

impl<'a> Dispatcher<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, queue: &'a Queue) -> Self {
        Self {
            shared,
            queue,
            window: Window::default(),
            placed: Placed::default(),
        }
    }

    /// Everything of the manifest but `pg_control`, which is given back.
    pub(super) fn run(
        &mut self,
        mut manifest: ManifestReader,
    ) -> Result<Option<FileEntry>, RestoreError> {
        let mut control = None;
        while let Some(entry) = manifest.next_entry()? {
            self.shared.check_stop()?;
            match entry {
                ManifestEntry::Directory(folder) => {
                    self.shared.roots.make_folder(&folder.path, folder.mode)?;
                }
                ManifestEntry::File(file) => {
                    self.shared.check_extents(&file)?;
                    self.placed.files += 1;
                    self.placed.bytes += file.size;
                    if file.path.as_bytes() == CONTROL_FILE {
                        // `backup_manifest` names it before it is in place.
                        if file.crc32c.is_none() {
                            return Err(self.shared.damaged(&file.path, "it has no checksum"));
                        }
                        control = Some(file);
                    } else {
                        self.file(&file)?;
                    }
                }
                // The tablespaces are in the catalog entry, and PostgreSQL sends no other links.
                ManifestEntry::Tablespace(_) | ManifestEntry::Symlink(_) => {}
            }
        }
        self.hand_out()?;
        Ok(control)
    }

    /// One more piece.
    pub(super) fn piece(&mut self, piece: Piece) -> Result<(), RestoreError> {
        self.window.push(piece);
        self.hand_out_full()
    }

    fn hand_out_full(&mut self) -> Result<(), RestoreError> {
        if self.window.is_full() {
            return self.hand_out();
        }
        Ok(())
    }

    fn file(&mut self, file: &FileEntry) -> Result<(), RestoreError> {
        let creation = match file.extents.len() {
            _ if self.is_there(file)? => Creation::Before,
            1 => Creation::ByWriter,
            _ if file.size < PREALLOCATE_MIN => Creation::Done,
            _ => Creation::WithRoom,
        };
        if matches!(creation, Creation::Done | Creation::WithRoom) {
            let made = self.shared.roots.create(&file.path, file.mode)?;
            if creation == Creation::WithRoom {
                preallocate(&made, file.size).map_err(|error| {
                    RestoreError::file("make room for", file.path.as_path(), error)
                })?;
            }
        }
        let unknown = file.crc32c.is_none().then(|| {
            let mut found = self.shared.found();
            found.push(0);
            found.len() - 1
        });
        let destination = Arc::new(Destination::new(file, creation, unknown));
        // A file may be larger than a window.
        let mut rest = file.extents.as_slice();
        while !rest.is_empty() {
            let taken = self.window.take(&destination, rest);
            rest = &rest[taken..];
            self.hand_out_full()?;
        }
        Ok(())
    }

    /// Whether the file was there before; it has its size and mode then.
    fn is_there(&self, file: &FileEntry) -> Result<bool, RestoreError> {
        let roots = self.shared.roots;
        if roots.found() == Found::Nothing {
            return Ok(false);
        }
        let existing = roots.open_existing(&file.path, file.mode, file.size)?;
        Ok(existing.is_some())
    }

    /// Everything that waits.
    pub(super) fn hand_out(&mut self) -> Result<(), RestoreError> {
        let (shared, queue) = (self.shared, self.queue);
        let check = || shared.check_stop();
        self.window.hand_out(&check, &mut |job| {
            check()?;
            queue.send(job, &check)
        })
    }
}

/// Takes the room for a file at once; a file system that cannot is no error.
fn preallocate(file: &File, size: u64) -> std::io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
