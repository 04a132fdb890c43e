//! Sockets that servers listen on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};

use crate::limits::MAX_SOCKET_BYTES;

/// Maximum number of connections that wait in the kernel for the server to accept them: the default of Tokio.
const BACKLOG: u32 = 1024;

/// Error for an address that the server cannot listen on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {why}; check whether another process uses the address")]
pub struct BindError {
    /// Address that the server tried to listen on.
    pub address: SocketAddr,
    /// Error of the operating system.
    pub why: io::Error,
}

/// Opens the listener that a [`Server`](crate::Server) serves on. A listener on `[::]` accepts IPv4 connections too,
/// and falls back to `0.0.0.0` when the kernel has no IPv6. The caller must be in a Tokio runtime.
///
/// # Errors
/// Another process uses the address, or the machine does not have it.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_with(address, listen)
}

fn bind_with<L>(address: SocketAddr, listen: impl Fn(SocketAddr) -> io::Result<L>) -> Result<L, BindError> {
    let listened = match (listen(address), unspecified_ipv4(address)) {
        (Err(why), Some(ipv4)) if is_ipv6_missing(&why) => {
            tracing::info!(%address, instead = %ipv4, reason = %why, "the kernel has no IPv6, so the server listens on IPv4 only");
            return listen(ipv4).map_err(|why| BindError { address: ipv4, why });
        }
        (listened, _) => listened,
    };
    listened.map_err(|why| BindError { address, why })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // Set explicitly: with the sysctl net.ipv6.bindv6only of the node, IPv4 peers could not connect.
            set_ipv6_v6only(&socket, false)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    // The kernel counts its buffers as memory of the server, so their sizes are limited. Every connection inherits
    // these sizes.
    socket.set_recv_buffer_size(MAX_SOCKET_BYTES)?;
    socket.set_send_buffer_size(MAX_SOCKET_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Returns the same port on all IPv4 addresses, if `address` is for all IPv6 addresses.
fn unspecified_ipv4(address: SocketAddr) -> Option<SocketAddr> {
    let is_for_all = address.is_ipv6() && address.ip().is_unspecified();
    is_for_all.then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
}

/// Returns true for the errors of `socket` and `bind` on `[::]` in a kernel or sandbox without IPv6.
fn is_ipv6_missing(why: &io::Error) -> bool {
    let errors = [Errno::AFNOSUPPORT, Errno::PFNOSUPPORT, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(why).is_some_and(|errno| errors.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::net::TcpStream;

    use super::*;

    const ANY: &str = "[::]:8443";

    /// Binds `address` in a kernel whose IPv6 addresses fail with `errno`. Returns the result and the addresses that
    /// were tried.
    fn bind_without_ipv6(address: &str, errno: Errno) -> (Result<SocketAddr, String>, Vec<String>) {
        let tried = RefCell::new(Vec::new());
        let listen = |address: SocketAddr| {
            tried.borrow_mut().push(address.to_string());
            if address.is_ipv6() { Err(errno.into()) } else { Ok(address) }
        };
        let bound = bind_with(address.parse().unwrap(), listen).map_err(|error| error.to_string());
        (bound, tried.into_inner())
    }

    #[test]
    fn a_listener_for_all_addresses_works_without_ipv6() {
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            let (bound, tried) = bind_without_ipv6(ANY, errno);
            assert_eq!(bound, Ok("0.0.0.0:8443".parse().unwrap()));
            assert_eq!(tried, [ANY, "0.0.0.0:8443"]);
        }
    }

    #[test]
    fn other_errors_and_addresses_do_not_fall_back_to_ipv4() {
        let (bound, tried) = bind_without_ipv6(ANY, Errno::ADDRINUSE);
        assert!(bound.unwrap_err().starts_with("cannot listen on [::]:8443: "));
        assert_eq!(tried, [ANY]);
        let (bound, tried) = bind_without_ipv6("[2001:db8::1]:8443", Errno::ADDRNOTAVAIL);
        assert!(bound.unwrap_err().starts_with("cannot listen on [2001:db8::1]:8443: "));
        assert_eq!(tried.len(), 1);
    }

    #[tokio::test]
    async fn one_listener_accepts_callers_of_both_families() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        for (from, to) in [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1"), ("::1", "::1")] {
            let from: IpAddr = from.parse().unwrap();
            let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
            socket.bind(SocketAddr::new(from, 0)).unwrap();
            let to = SocketAddr::new(to.parse().unwrap(), port);
            let (connected, accepted) = tokio::join!(socket.connect(to), listener.accept());
            let (_stream, (_, peer)): (TcpStream, _) = (connected.unwrap(), accepted.unwrap());
            assert_eq!(peer.ip().to_canonical(), from);
        }
    }

    #[tokio::test]
    async fn the_error_names_the_address() {
        let first = bind("[::1]:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }
}
