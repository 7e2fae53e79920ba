//! The group whose members may use the unix socket (`unix_socket_group`).
//!
//! The kernel lets nobody but the group connect (mode 0660). That a client is a member is checked again from what the
//! kernel knows of it: the group that it connected with, or the further groups of its process.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tokio::net::unix::UCred;

/// A group of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketGroup(u32);

impl SocketGroup {
    /// The group with this name, or with this number.
    pub fn named(name: &str) -> io::Result<Self> {
        if let Ok(number) = name.parse() {
            return Ok(Self(number));
        }
        let groups = std::fs::read_to_string("/etc/group")?;
        let number = number_of(&groups, name).ok_or_else(|| {
            let text = format!("there is no group `{name}` (unix_socket_group) in /etc/group");
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        Ok(Self(number))
    }

    /// Gives the group the socket at `path`, and the way to it when its folder is ours.
    pub(super) fn open(self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, None, Some(self.0))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        let Some(folder) = path.parent() else {
            return Ok(());
        };
        let metadata = std::fs::metadata(folder)?;
        let (ours, mode) = (
            rustix::process::geteuid().as_raw(),
            metadata.mode() & 0o7777,
        );
        if metadata.uid() == ours && mode & 0o001 == 0 {
            std::os::unix::fs::chown(folder, None, Some(self.0))?;
            // Pass through, see nothing else.
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode | 0o010))?;
        }
        Ok(())
    }

    /// Whether the client is a member.
    pub(super) fn has(self, client: &UCred) -> bool {
        if client.gid() == self.0 {
            return true;
        }
        let Some(pid) = client.pid() else {
            return false;
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // The number may belong to another process by now: then its user is another, too.
        numbers(&status, "Uid:").any(|uid| uid == client.uid())
            && numbers(&status, "Groups:").any(|group| group == self.0)
    }
}

fn number_of(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let number = fields.nth(1)?.parse().ok()?;
        found.then_some(number)
    })
}

/// The numbers in the line of `/proc/PID/status` that begins with `name`.
fn numbers<'a>(status: &'a str, name: &str) -> impl Iterator<Item = u32> + use<'a> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let words = line.unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_name_or_number() {
        let groups = "root:x:0:\nbroken\nops:x:2000:ann,bob\nopsx:x:7:\n";
        assert_eq!(number_of(groups, "ops"), Some(2000));
        assert_eq!(number_of(groups, "nobody"), None);
        assert_eq!(SocketGroup::named("4711").unwrap(), SocketGroup(4711));
        assert!(SocketGroup::named("no such group").is_err());
    }

    #[test]
    fn groups_of_a_process_are_read() {
        let status = "Name:\tx\nUid:\t5\t6\t6\t6\nGid:\t1\nGroups:\t4 24 2000 \nVmPeak:\t1 kB\n";
        assert_eq!(
            numbers(status, "Groups:").collect::<Vec<_>>(),
            [4, 24, 2000]
        );
        assert_eq!(numbers(status, "Uid:").next(), Some(5));
        assert_eq!(numbers("", "Groups:").next(), None);
    }
}
