//! The TCP stack of a host: smoltcp on `Medium::Ip`, with an echo service (RFC 862) and a generator that sends without
//! being asked (RFC 864).

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::sim::host::{ECHO_PORT, End, Flow, FlowState, GENERATOR_PORT, HTTP_PORT, HostNetwork, Traffic};
use crate::sim::packet::{Packet, Tuple, tcp_flag};
use crate::time::{Duration, Instant};

/// A TCP stack with its applications.
pub struct Tcp {
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
    clients: Vec<Client>,
    servers: Vec<Server>,
    /// Connections that the other end reset.
    resets: BTreeSet<Tuple>,
    /// HTTP status of the web page.
    pub web_status: u16,
}

struct Client {
    handle: SocketHandle,
    flow: usize,
    tuple: Tuple,
    /// Bytes of the current exchange that have not come back yet.
    awaited: usize,
    next_round: Instant,
    closing: bool,
}

struct Server {
    handle: SocketHandle,
    tuple: Tuple,
    /// Sequence number of the SYN that opened the connection.
    initial: u32,
    port: u16,
    next_push: Instant,
}

#[derive(Default)]
struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    mtu: usize,
}

/// MTU of the stack if the device segments its packets, in bytes.
const SUPER_MTU: usize = 4000;

/// How long an end waits for an answer before it gives a connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(6);
const BUFFER_BYTES: usize = 8192;
/// Interval and size of the generator's messages.
const PUSH_GAP: Duration = Duration::from_millis(150);
const PUSH_SIZE: usize = 600;

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("clients", &self.clients.len()).field("servers", &self.servers.len()).finish()
    }
}

fn wall(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}

fn socket() -> Socket<'static> {
    let mut socket = Socket::new(SocketBuffer::new(vec![0; BUFFER_BYTES]), SocketBuffer::new(vec![0; BUFFER_BYTES]));
    socket.set_nagle_enabled(false);
    socket.set_timeout(Some(smoltcp::time::Duration::from_micros(USER_TIMEOUT.as_micros() as u64)));
    socket.set_keep_alive(Some(smoltcp::time::Duration::from_millis(2000)));
    socket
}

impl Tcp {
    /// The stack of a host with these addresses; `seed` decides its initial sequence numbers.
    pub fn new(addresses: &[IpAddr], seed: u64, seat: &HostNetwork, now: Instant) -> Self {
        let mut device = Queues { mtu: if seat.gso { SUPER_MTU } else { seat.mtu }, ..Queues::default() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, wall(now));
        interface.update_ip_addrs(|own| {
            for address in addresses {
                own.push(IpCidr::new((*address).into(), 0)).expect("one address per family");
            }
        });
        // The host filters by address itself, its loopback addresses included.
        interface.set_any_ip(true);
        let (sockets, resets) = (SocketSet::new(Vec::new()), BTreeSet::new());
        Self { interface, device, sockets, clients: Vec::new(), servers: Vec::new(), resets, web_status: 200 }
    }

    /// Opens the connection of flow number `number`.
    pub fn open(&mut self, number: usize, flow: &Flow, now: Instant) {
        let mut socket = socket();
        let (local, remote) = (flow.tuple.source, flow.tuple.destination);
        let opened = socket.connect(self.interface.context(), (remote.0, remote.1), (local.0, local.1));
        opened.expect("the generator gives every flow its own port");
        let handle = self.sockets.add(socket);
        let (flow, tuple) = (number, flow.tuple);
        self.clients.push(Client { handle, flow, tuple, awaited: 0, next_round: now, closing: false });
    }

    /// Receives a segment.
    pub fn receive(&mut self, packet: &Packet, now: Instant) {
        let Some(flags) = packet.tcp_flags() else { return };
        let own = packet.tuple().reversed();
        if flags & tcp_flag::RST != 0 && packet.checksum_ok() {
            self.resets.insert(own);
        }
        let opens = flags & (tcp_flag::SYN | tcp_flag::ACK | tcp_flag::RST) == tcp_flag::SYN;
        let port = own.source.1;
        let initial = packet.tcp_sequence().unwrap_or_default();
        if opens && packet.checksum_ok() {
            self.remove_previous(own, initial);
        }
        let known = self.servers.iter().any(|s| s.tuple == own) || self.clients.iter().any(|c| c.tuple == own);
        if opens && !known && !matches!(port, ECHO_PORT | GENERATOR_PORT | HTTP_PORT) {
            // Like a host with a packet filter: closed ports do not answer.
            return;
        }
        if opens && !known {
            let mut socket = socket();
            socket.listen(port).expect("a port to listen on");
            let handle = self.sockets.add(socket);
            self.servers.push(Server { handle, tuple: own, initial, port, next_push: now });
        }
        self.device.received.push_back(packet.emit());
        self.poll(now);
        // A listener whose segment was not accepted (because of its checksum) must not wait for another one.
        let sockets = &mut self.sockets;
        self.servers.retain(|server| {
            let gone = matches!(sockets.get::<Socket<'_>>(server.handle).state(), State::Listen | State::Closed);
            if gone {
                sockets.remove(server.handle);
            }
            !gone
        });
    }

    /// Forgets an old connection between the same ends whose end this host did not see: a translated port is used
    /// again, and the reset or FIN was lost. By RFC 9293 section 3.10.7.4 this host would answer with an ACK, which the
    /// other end resets, and accept the next SYN; smoltcp does not answer, so the old connection is removed at once.
    fn remove_previous(&mut self, own: Tuple, initial: u32) {
        let sockets = &mut self.sockets;
        self.servers.retain(|server| {
            let is_former = server.tuple == own && server.initial != initial;
            if is_former {
                sockets.remove(server.handle);
            }
            !is_former
        });
    }

    /// Runs the stack and the applications.
    pub fn run(&mut self, flows: &mut [Flow], now: Instant) {
        self.poll(now);
        self.serve(now);
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| self.run_client(client, &mut flows[client.flow], now));
        clients.append(&mut self.clients);
        self.clients = clients;
        self.poll(now);
    }

    /// Ends the applications: every connection is reset.
    pub fn abort(&mut self) {
        for server in &self.servers {
            self.sockets.get_mut::<Socket<'_>>(server.handle).abort();
        }
    }

    /// The next segment to send.
    pub fn poll_transmit(&mut self) -> Option<Packet> {
        Packet::parse(&self.device.sent.pop_front()?)
    }

    /// When [`Tcp::run`] has to be called next.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let stack = self.interface.poll_at(wall(now), &self.sockets);
        let stack = stack.map(|at| Instant::from_nanos(u64::try_from(at.total_micros()).unwrap_or(0) * 1000));
        let rounds = self.clients.iter().filter(|c| c.awaited == 0 && !c.closing).map(|client| client.next_round);
        let pushes = self.servers.iter().filter(|s| s.port == GENERATOR_PORT).map(|server| server.next_push);
        rounds.chain(pushes).filter(|at| *at > now).chain(stack.map(|at| at.max(now))).min()
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(wall(now), &mut self.device, &mut self.sockets);
    }

    fn serve(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for (position, server) in self.servers.iter_mut().enumerate() {
            let socket = self.sockets.get_mut::<Socket<'_>>(server.handle);
            match server.port {
                GENERATOR_PORT => {
                    if socket.can_recv() {
                        socket.recv(|data| (data.len(), ())).expect("readable");
                    }
                    if socket.may_send() && socket.state() == State::Established && server.next_push <= now {
                        server.next_push = now + PUSH_GAP;
                        if socket.send_capacity() - socket.send_queue() >= PUSH_SIZE {
                            socket.send_slice(&[b'g'; PUSH_SIZE]).expect("writable");
                        }
                    }
                }
                HTTP_PORT => answer_http(socket, self.web_status),
                _ => {
                    while socket.can_recv() && socket.can_send() {
                        let room = socket.send_capacity() - socket.send_queue();
                        let take = |data: &mut [u8]| (data.len().min(room), data[..data.len().min(room)].to_vec());
                        let data = socket.recv(take).expect("readable");
                        socket.send_slice(&data).expect("writable");
                        if data.is_empty() {
                            break;
                        }
                    }
                }
            }
            if socket.state() == State::CloseWait && !socket.can_recv() {
                socket.close();
            }
            if matches!(socket.state(), State::Closed | State::TimeWait) {
                gone.push(position);
            }
        }
        for position in gone.into_iter().rev() {
            self.sockets.remove(self.servers.remove(position).handle);
        }
    }

    /// Runs one client; false if its connection has ended.
    fn run_client(&mut self, client: &mut Client, flow: &mut Flow, now: Instant) -> bool {
        let socket = self.sockets.get_mut::<Socket<'_>>(client.handle);
        let generator = flow.spec.traffic == Traffic::TcpPush;
        if socket.may_send() && flow.state == FlowState::Opening {
            flow.state = FlowState::Open;
            flow.opened_at = Some(now);
        }
        while socket.can_recv() {
            let taken = socket.recv(|data| (data.len(), data.len())).expect("readable");
            flow.bytes += taken as u64;
            if generator {
                client.awaited += taken;
                while client.awaited >= PUSH_SIZE {
                    client.awaited -= PUSH_SIZE;
                    flow.answer(now);
                }
            } else {
                client.awaited = client.awaited.saturating_sub(taken);
                if client.awaited == 0 {
                    flow.answer(now);
                    client.next_round = now + flow.spec.gap;
                }
            }
        }
        let done = flow.answered >= flow.spec.rounds;
        if done && !client.closing && socket.may_send() {
            client.closing = true;
            socket.close();
        }
        let free = socket.may_send() && socket.send_capacity() - socket.send_queue() >= flow.spec.size;
        if !generator && !client.closing && free && client.awaited == 0 && client.next_round <= now {
            socket.send_slice(&vec![b'e'; flow.spec.size]).expect("writable");
            client.awaited = flow.spec.size;
            flow.sent += 1;
        }
        if !matches!(socket.state(), State::Closed | State::TimeWait) {
            return true;
        }
        let reset = self.resets.remove(&client.tuple);
        flow.state = FlowState::Over(match (done, reset) {
            (true, _) => End::Done,
            (false, true) => End::Reset,
            (false, false) => End::TimedOut,
        });
        flow.ended_at = Some(now);
        self.sockets.remove(client.handle);
        false
    }

    /// Number of connections, as client or server.
    pub fn connections(&self) -> usize {
        self.clients.len() + self.servers.len()
    }
}

/// Answers a request for the web page and closes the connection.
fn answer_http(socket: &mut Socket<'_>, status: u16) {
    let asked = socket.can_recv() && socket.recv(|data| (data.len(), data.ends_with(b"\r\n\r\n"))).expect("readable");
    if asked && socket.can_send() {
        let body = if status == 200 { "all is well" } else { "try later" };
        let page = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        socket.send_slice(page.as_bytes()).expect("writable");
        socket.close();
    }
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        Some((Received(self.received.pop_front()?), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}
