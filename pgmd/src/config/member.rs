//! The servers, the further repositories and the standbys of a configuration: sections that have names of their own.

use std::fmt;

use pgm_proto::ServerName;

/// A kind of sections with names of their own: a map in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberGroup {
    /// `servers`.
    Servers,
    /// `repositories`.
    Repositories,
    /// `standbys`.
    Standbys,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// In which map it stands.
    pub group: MemberGroup,
    /// Under which name.
    pub name: String,
}

impl MemberGroup {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Servers, Self::Repositories, Self::Standbys];

    /// The field at the top.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Servers => "servers",
            Self::Repositories => "repositories",
            Self::Standbys => "standbys",
        }
    }

    /// The section in the registry.
    pub(super) const fn section(self) -> &'static str {
        match self {
            Self::Servers => "servers.NAME",
            Self::Repositories => "repositories.NAME",
            Self::Standbys => "standbys.NAME",
        }
    }

    /// For people.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Servers => "server",
            Self::Repositories => "repository",
            Self::Standbys => "standby",
        }
    }
}

impl Member {
    /// The member that a key such as `servers.prod.slot` or `servers.prod` names.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let groups = MemberGroup::ALL.into_iter();
        let mut found = groups.filter_map(|group| {
            let rest = key.strip_prefix(group.field())?.strip_prefix('.')?;
            let name = rest.split('.').next().unwrap_or(rest).to_owned();
            Some(Self { group, name })
        });
        found.next()
    }

    /// The server that it is, if it is one.
    pub fn server(&self) -> Option<ServerName> {
        match self.group {
            MemberGroup::Servers => self.name.parse().ok(),
            MemberGroup::Repositories | MemberGroup::Standbys => None,
        }
    }

    /// `servers.prod`.
    pub(super) fn key(&self) -> String {
        format!("{}.{}", self.group.field(), self.name)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} `{}`", self.group.word(), self.name)
    }
}
