//! Opening the socket that a server listens on.

use crate::limits::MAX_SOCKET_BYTES;
use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel has accepted and the server has not: as many as a Tokio listener has by default.
const BACKLOG: u32 = 1024;

/// An address is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {why}; is another process there?")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub why: io::Error,
}

/// Opens the listener that a [`Server`](crate::Server) serves on. One on `[::]` takes IPv4 connections too, and where the
/// kernel has no IPv6, it becomes one on `0.0.0.0`. It needs a Tokio runtime.
///
/// # Errors
/// When the address is taken or not to be had.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_by(address, listen)
}

fn bind_by<L>(address: SocketAddr, listen: impl Fn(SocketAddr) -> io::Result<L>) -> Result<L, BindError> {
    let listened = match (listen(address), any_ipv4(address)) {
        (Err(why), Some(ipv4)) if means_no_ipv6(&why) => {
            tracing::info!(%address, instead = %ipv4, reason = %why, "the kernel has no IPv6, so IPv4 alone is served");
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
            // Not left to the node: with the sysctl net.ipv6.bindv6only no IPv4 peer would get in.
            set_ipv6_v6only(&socket, false)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    // Inherited by every connection: what the kernel keeps for it counts as the server's memory too.
    socket.set_recv_buffer_size(MAX_SOCKET_BYTES)?;
    socket.set_send_buffer_size(MAX_SOCKET_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The same port on every IPv4 address, for an address that stands for every IPv6 address.
fn any_ipv4(address: SocketAddr) -> Option<SocketAddr> {
    let stands_for_all = address.is_ipv6() && address.ip().is_unspecified();
    stands_for_all.then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
}

/// What `socket` and `bind` say of `[::]` where the kernel was started without IPv6, or the sandbox has none.
fn means_no_ipv6(why: &io::Error) -> bool {
    let errors = [Errno::AFNOSUPPORT, Errno::PFNOSUPPORT, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(why).is_some_and(|errno| errors.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tokio::net::TcpStream;

    const ANY: &str = "[::]:8443";

    /// Listens where the kernel says `errno` of every IPv6 address. Returns where it listens, and what was tried.
    fn bound_without_ipv6(address: &str, errno: Errno) -> (Result<SocketAddr, String>, Vec<String>) {
        let tried = RefCell::new(Vec::new());
        let listen = |address: SocketAddr| {
            tried.borrow_mut().push(address.to_string());
            if address.is_ipv6() { Err(errno.into()) } else { Ok(address) }
        };
        let bound = bind_by(address.parse().unwrap(), listen).map_err(|error| error.to_string());
        (bound, tried.into_inner())
    }

    #[test]
    fn without_ipv6_in_the_kernel_a_listener_for_all_addresses_takes_ipv4_alone() {
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            let (bound, tried) = bound_without_ipv6(ANY, errno);
            assert_eq!(bound, Ok("0.0.0.0:8443".parse().unwrap()));
            assert_eq!(tried, [ANY, "0.0.0.0:8443"]);
        }
    }

    #[test]
    fn other_faults_and_other_addresses_are_not_answered_with_ipv4() {
        let (bound, tried) = bound_without_ipv6(ANY, Errno::ADDRINUSE);
        assert!(bound.unwrap_err().starts_with("cannot listen on [::]:8443: "));
        assert_eq!(tried, [ANY]);
        let (bound, tried) = bound_without_ipv6("[2001:db8::1]:8443", Errno::ADDRNOTAVAIL);
        assert!(bound.unwrap_err().starts_with("cannot listen on [2001:db8::1]:8443: "));
        assert_eq!(tried.len(), 1);
    }

    #[tokio::test]
    async fn one_listener_takes_callers_of_both_families_each_by_its_own_address() {
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
    async fn an_address_that_is_taken_is_named() {
        let first = bind("[::1]:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }
}
