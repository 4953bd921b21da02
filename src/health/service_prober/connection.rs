//! One TCP connection of the engine, by smoltcp on bare IP. It knows no routes, neighbours or MAC addresses.
//!
//! smoltcp draws its initial sequence number at random. On the wire it has to be [`CheckTarget::sequence`], so that
//! sequence numbers are shifted between the two.

mod shift;

use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{self, Socket, SocketBuffer};
use smoltcp::wire::{EthernetProtocol, HardwareAddress, IpAddress, IpCidr};

use self::shift::SequenceShift;
use super::target::CheckTarget;
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::emit::{self, MacPair};

/// Size of the receive buffer, and so of the window, in bytes.
const RECEIVE_BUFFER_LEN: usize = 16 * 1024;

/// The phase of a connection, as far as a check needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionPhase {
    /// The server has not answered the SYN.
    Connecting,
    /// The connection is established; both ends can send.
    Established,
    /// The server has sent its FIN and will send no more.
    PeerClosed,
    /// The connection is closed or was reset.
    Closed,
}

/// A connection with its own TCP stack; see the module documentation.
pub(super) struct CheckConnection {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    queues: Queues,
    /// The bytes to send once the connection is established.
    request: Vec<u8>,
    was_established: bool,
    next_poll: Option<Instant>,
}

impl std::fmt::Debug for CheckConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckConnection")
            .field("was_established", &self.was_established)
            .field("next_poll", &self.next_poll)
            .finish_non_exhaustive()
    }
}

impl CheckConnection {
    /// A connection whose SYN is to be sent, followed by `request` once it is established. `None` if smoltcp refuses
    /// the addresses or ports.
    pub(super) fn open(way: &CheckTarget, request: Vec<u8>, random: u64, now: Instant) -> Option<Self> {
        let shift = SequenceShift::to(way.sequence);
        let mut queues = Queues { received: VecDeque::new(), to_send: VecDeque::new(), mtu: way.mtu.into(), shift };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = random;
        let mut interface = Interface::new(config, &mut queues, stack_time(now));
        let (local, remote) = (IpAddress::from(way.addresses.source()), IpAddress::from(way.addresses.destination()));
        let host_length = match way.addresses.family() {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(local, host_length));
        });
        // The stack only asks whether there is a route. On bare IP the next hop does not matter.
        match remote {
            IpAddress::Ipv4(remote) => interface.routes_mut().add_default_ipv4_route(remote).ok()?,
            IpAddress::Ipv6(remote) => interface.routes_mut().add_default_ipv6_route(remote).ok()?,
        };
        let buffer = |bytes: usize| SocketBuffer::new(vec![0; bytes]);
        let mut socket = Socket::new(buffer(RECEIVE_BUFFER_LEN), buffer(request.len().max(1)));
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket.connect(interface.context(), (remote, way.port), (local, way.source_port)).ok()?;
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Some(Self { interface, sockets, handle, queues, request, was_established: false, next_poll: None })
    }

    /// Takes an IP packet for this connection.
    pub(super) fn receive(&mut self, packet: &[u8]) {
        let mut packet = packet.to_vec();
        self.queues.shift.inward(&mut packet);
        self.queues.received.push_back(packet);
    }

    /// Takes the request out, to send it over another connection. It is empty once the connection was established.
    pub(super) fn take_request(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.request)
    }

    /// Processes the packets that were received, and sends what is due.
    pub(super) fn poll(&mut self, now: Instant) {
        self.run(now);
        if !self.was_established && matches!(self.phase(), ConnectionPhase::Established | ConnectionPhase::PeerClosed) {
            self.was_established = true;
            let request = std::mem::take(&mut self.request);
            let sent = self.socket().send_slice(&request);
            debug_assert!(sent.is_err() || sent == Ok(request.len()), "the buffer was made for it");
            self.run(now);
        }
    }

    /// Closes the engine's side with a FIN.
    pub(super) fn close(&mut self, now: Instant) {
        self.socket().close();
        self.run(now);
    }

    /// Ends the connection with a reset.
    pub(super) fn abort(&mut self, now: Instant) {
        self.socket().abort();
        self.run(now);
    }

    /// Passes the received bytes to `take`.
    pub(super) fn read(&mut self, mut take: impl FnMut(&[u8])) {
        let socket = self.socket();
        while socket.can_recv() {
            let read = socket.recv(|bytes| {
                take(bytes);
                (bytes.len(), ())
            });
            if read.is_err() {
                return;
            }
        }
    }

    /// Discards the received bytes.
    pub(super) fn drop_received(&mut self) {
        self.read(|_| {});
    }

    pub(super) fn phase(&self) -> ConnectionPhase {
        let socket: &Socket<'_> = self.sockets.get(self.handle);
        match socket.state() {
            tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived => ConnectionPhase::Connecting,
            tcp::State::Established | tcp::State::FinWait1 | tcp::State::FinWait2 => ConnectionPhase::Established,
            tcp::State::CloseWait | tcp::State::Closing | tcp::State::LastAck => ConnectionPhase::PeerClosed,
            // TIME-WAIT is not waited for: a late FIN is answered by a reset, and the port is not reused at once
            // anyway.
            tcp::State::TimeWait | tcp::State::Closed => ConnectionPhase::Closed,
        }
    }

    /// True if the handshake was ever completed.
    pub(super) const fn was_established(&self) -> bool {
        self.was_established
    }

    /// When the connection is to be polled next.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.next_poll
    }

    /// The next packet to send, in a frame.
    pub(super) fn poll_frame(&mut self, macs: MacPair) -> Option<Vec<u8>> {
        let packet = self.queues.to_send.pop_front()?;
        let ethertype = match packet.first().map(|byte| byte >> 4) {
            Some(4) => EthernetProtocol::Ipv4,
            _ => EthernetProtocol::Ipv6,
        };
        Some(emit::ethernet(macs, ethertype, packet.len(), |bytes| bytes.copy_from_slice(&packet)))
    }

    fn run(&mut self, now: Instant) {
        let at = stack_time(now);
        self.interface.poll(at, &mut self.queues, &mut self.sockets);
        let wait = self.interface.poll_delay(at, &self.sockets);
        self.next_poll = wait.map(|wait| now + Duration::from_micros(wait.total_micros().max(1)));
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

fn stack_time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}

/// The network device of the smoltcp stack: two queues of IP packets.
#[derive(Debug)]
struct Queues {
    received: VecDeque<Vec<u8>>,
    to_send: VecDeque<Vec<u8>>,
    mtu: usize,
    shift: SequenceShift,
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, ToSend<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), ToSend(&mut self.to_send, &mut self.shift)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<ToSend<'_>> {
        Some(ToSend(&mut self.to_send, &mut self.shift))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // Received checksums were verified before, or vouched for by a device; a partial checksum would not pass a
        // check here.
        let mut checksum = ChecksumCapabilities::ignored();
        checksum.ipv4 = Checksum::Tx;
        checksum.tcp = Checksum::Tx;
        capabilities.checksum = checksum;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct ToSend<'a>(&'a mut VecDeque<Vec<u8>>, &'a mut SequenceShift);

impl TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.1.outward(&mut packet);
        self.0.push_back(packet);
        result
    }
}
