//! Who asks, and whether they may.
//!
//! Every way in (unix socket, TCP, console) makes a [`Caller`] once it knows who is there; from then on only this value
//! counts. What a request needs is said by the request itself ([`Request::access`], [`Request::reach`]).

use std::fmt;
use std::net::SocketAddr;

use pgm_mgmt::{Error, ErrorCode, Reach, Request, Role};

/// Somebody who has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name: of the operating system's user, or of the admin.
    pub user: String,
    /// What they may do.
    pub role: Role,
    /// Where they are.
    pub origin: Origin,
}

/// Where a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// On this host: the unix socket.
    Local {
        /// Their process, where the kernel says.
        pid: Option<i32>,
    },
    /// Elsewhere: TCP.
    Remote {
        /// Their address.
        address: SocketAddr,
    },
}

impl Caller {
    /// Whether the caller may ask for `request`.
    pub(super) fn may(&self, request: &Request) -> Result<(), Error> {
        let name = request.name();
        if request.reach() == Reach::LocalOnly && matches!(self.origin, Origin::Remote { .. }) {
            let text = format!("`{name}` works only on pgmd's own host, through its unix socket");
            let error = Error::new(ErrorCode::NotAllowed, text);
            return Err(error.with_hint("run pgm-cli there, as the user that pgmd runs as"));
        }
        if !self.role.may(request.access()) {
            let text = format!(
                "{} may look, but not `{name}`: its role is {}",
                self.user, self.role
            );
            let error = Error::new(ErrorCode::NotAllowed, text);
            return Err(error.with_hint("it takes a user with the role admin"));
        }
        Ok(())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { pid: Some(pid) } => write!(f, "local, process {pid}"),
            Self::Local { pid: None } => f.write_str("local"),
            Self::Remote { address } => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.user, self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, origin: Origin) -> Caller {
        Caller {
            user: "ann".to_owned(),
            role,
            origin,
        }
    }

    #[test]
    fn a_reader_may_look_and_nothing_else() {
        let reader = caller(Role::ReadOnly, Origin::Local { pid: None });
        assert_eq!(reader.may(&Request::Status { server: None }), Ok(()));
        assert_eq!(
            reader.may(&Request::Shutdown).unwrap_err().code,
            ErrorCode::NotAllowed
        );
    }

    #[test]
    fn a_reload_is_for_the_host_itself() {
        let address = SocketAddr::from(([192, 0, 2, 1], 5000));
        let remote = caller(Role::Admin, Origin::Remote { address });
        assert_eq!(
            remote.may(&Request::Reload).unwrap_err().code,
            ErrorCode::NotAllowed
        );
        assert_eq!(remote.may(&Request::Shutdown), Ok(()));
        let local = caller(Role::Admin, Origin::Local { pid: Some(7) });
        assert_eq!(local.may(&Request::Reload), Ok(()));
    }
}
