//! The kernel's socket on the network between the nodes.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::ha::association::DATAGRAM_MAX;
use crate::ha::{HaConfig, NodeId, PORT};
use crate::time::{Duration, Instant};

/// How often an address is tried that the kernel does not have yet.
const RETRY: Duration = Duration::from_secs(1);

/// The path for synchronisation of one node.
#[derive(Debug, Default)]
pub(super) struct SyncPath {
    /// The own address, and those of the other nodes.
    own: Option<IpAddr>,
    others: Vec<(NodeId, SocketAddr)>,
    socket: Option<UdpSocket>,
    tried: Option<Instant>,
    /// The last failure; it is logged only when it changes.
    failure: Option<io::ErrorKind>,
}

impl SyncPath {
    /// Takes the addresses of a configuration over.
    pub(super) fn configure(&mut self, config: &HaConfig) {
        let own = config.my_node().sync;
        if own != self.own {
            (self.own, self.socket, self.tried, self.failure) = (own, None, None, None);
        }
        let addressed = |(id, node): (NodeId, &crate::ha::NodeConfig)| Some((id, SocketAddr::new(node.sync?, PORT)));
        self.others = config.others().filter_map(addressed).collect();
    }

    /// Opens the socket where that is due; the kernel may get the address later.
    pub(super) fn open(&mut self, engine: &str, now: Instant) {
        let Some(own) = self.own.filter(|_| self.socket.is_none()) else { return };
        if self.tried.is_some_and(|tried| now.since(tried) < RETRY) {
            return;
        }
        self.tried = Some(now);
        let opened = UdpSocket::bind((own, PORT)).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        match opened {
            Ok(socket) => {
                tracing::info!(engine, address = %own, "the path for synchronisation is open");
                (self.socket, self.failure) = (Some(socket), None);
            }
            Err(error) if self.failure == Some(error.kind()) => {}
            Err(error) => {
                tracing::warn!(engine, address = %own, %error, "no path for synchronisation: `sync` of [[ha.node]] has to be an address of this machine");
                self.failure = Some(error.kind());
            }
        }
    }

    /// True if there is a node to send to.
    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some() && !self.others.is_empty()
    }

    /// Sends a datagram to a node; false if the kernel did not take it, `None` if the node has no address here.
    pub(super) fn send(&self, node: NodeId, bytes: &[u8]) -> Option<bool> {
        let socket = self.socket.as_ref()?;
        let (_, to) = self.others.iter().find(|(id, _)| *id == node)?;
        // Without a cable, or while the other node is away, it fails: the hellos on links say who lives.
        Some(socket.send_to(bytes, to).is_ok())
    }

    /// Reads a datagram of another node into `buffer`, if one waits.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8; DATAGRAM_MAX]) -> Option<&'a [u8]> {
        let socket = self.socket.as_ref()?;
        // An error may be one that ICMP reported about an earlier datagram; then others may wait behind it.
        for _ in 0..8 {
            match socket.recv_from(buffer) {
                Ok((length, from)) if self.others.iter().any(|(_, other)| other.ip() == from.ip()) => {
                    return Some(&buffer[..length]);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// The socket, for a sleep that a datagram ends.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}
