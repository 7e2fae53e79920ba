//! Listening on TCP: from a host's name or `*` to sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use tokio::net::TcpListener;

/// Listens on every address that `host` stands for, `*` for all of this host. Needs a runtime around it.
///
/// A name may stand for an address of a kind that this host does not have; that is an error only if no other is left.
pub(super) fn listen(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut missing = None;
    for address in addresses(host, port)? {
        match bind(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_of_another_kind(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host == "*" {
        // One socket takes both kinds, where the system has both.
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let has_both = std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
        let one = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        return Ok(vec![if has_both { both } else { one }]);
    }
    let mut addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn is_of_another_kind(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}
