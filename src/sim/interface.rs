//! A network interface of a host or firewall: answers ARP and neighbour discovery, resolves next hops, and queues
//! packets meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sim::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet, ethernet, protocol, split_ethernet};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

/// A network interface.
#[derive(Debug)]
pub struct NetworkInterface {
    /// MAC address.
    pub mac: MacAddr,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it announces itself as a router in neighbour advertisements.
    pub router: bool,
    neighbors: BTreeMap<IpAddr, MacAddr>,
    waiting: BTreeMap<IpAddr, Waiting>,
    out: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Waiting {
    last_request: Instant,
    tries: u8,
    packets: Vec<Packet>,
}

impl NetworkInterface {
    const RETRY: Duration = Duration::from_millis(500);
    const TRIES_MAX: u8 = 6;
    const QUEUE_MAX: usize = 16;

    /// An interface with these addresses.
    pub fn new(mac: MacAddr, addresses: Vec<IpAddr>, router: bool) -> Self {
        let (neighbors, waiting) = (BTreeMap::new(), BTreeMap::new());
        Self { mac, addresses, router, neighbors, waiting, out: VecDeque::new() }
    }

    /// Receives a frame; returns its IP packet, if the frame is addressed to this interface.
    pub fn receive(&mut self, frame: &[u8], now: Instant) -> Option<Packet> {
        let (destination, source, ethertype, payload) = split_ethernet(frame)?;
        if destination != self.mac && !destination.is_multicast() {
            return None;
        }
        match ethertype {
            ETHERTYPE_ARP => {
                self.receive_arp(payload, now);
                None
            }
            ETHERTYPE_IPV4 => Packet::parse(payload).filter(|_| destination == self.mac),
            ETHERTYPE_IPV6 => {
                let packet = Packet::parse(payload)?;
                if self.receive_discovery(&packet, source, now) {
                    return None;
                }
                Some(packet).filter(|_| destination == self.mac)
            }
            _ => None,
        }
    }

    /// Sends `packet` to `next_hop`, which is resolved first if necessary.
    pub fn send(&mut self, packet: Packet, next_hop: IpAddr, now: Instant) {
        if let Some(mac) = self.neighbors.get(&next_hop) {
            let frame = self.wrap(*mac, &packet);
            self.out.push_back(frame);
            return;
        }
        let fresh = Waiting { last_request: now, tries: 1, packets: Vec::new() };
        let first = !self.waiting.contains_key(&next_hop);
        let waiting = self.waiting.entry(next_hop).or_insert(fresh);
        if waiting.packets.len() < Self::QUEUE_MAX {
            waiting.packets.push(packet);
        }
        if first {
            self.request_neighbor(next_hop);
        }
    }

    /// Asks again for neighbours that did not answer, and gives up after some attempts.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<IpAddr> =
            self.waiting.iter().filter(|(_, w)| now.since(w.last_request) >= Self::RETRY).map(|(ip, _)| *ip).collect();
        for address in due {
            let Some(waiting) = self.waiting.get_mut(&address) else { continue };
            waiting.last_request = now;
            waiting.tries += 1;
            if waiting.tries > Self::TRIES_MAX {
                self.waiting.remove(&address);
            } else {
                self.request_neighbor(address);
            }
        }
    }

    /// When [`NetworkInterface::handle_timeout`] has to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.last_request + Self::RETRY).min()
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// Changes the MAC address and announces it (gratuitous ARP, unsolicited neighbour advertisement).
    pub fn change_mac(&mut self, mac: MacAddr) {
        self.mac = mac;
        self.announce();
    }

    /// Announces the MAC address to everybody on the segment.
    pub fn announce(&mut self) {
        for address in self.addresses.clone() {
            match address {
                IpAddr::V4(address) => self.arp(1, MacAddr::BROADCAST, address, MacAddr::default(), address),
                IpAddr::V6(address) => self.advertise(address, address, all_nodes(), multicast_mac(all_nodes()), false),
            }
        }
    }

    /// Forgets its neighbours and the waiting packets, as after a restart.
    pub fn forget(&mut self) {
        self.neighbors.clear();
        self.waiting.clear();
        self.out.clear();
    }

    fn wrap(&self, mac: MacAddr, packet: &Packet) -> Vec<u8> {
        let ethertype = if packet.source.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        ethernet(mac, self.mac, ethertype, &packet.emit())
    }

    fn learn(&mut self, address: IpAddr, mac: MacAddr, now: Instant) {
        if mac.is_multicast() || mac.is_zero() {
            return;
        }
        let known = self.neighbors.contains_key(&address);
        let waiting = self.waiting.remove(&address);
        if known || waiting.is_some() {
            self.neighbors.insert(address, mac);
        }
        for packet in waiting.into_iter().flat_map(|waiting| waiting.packets) {
            self.send(packet, address, now);
        }
    }

    fn request_neighbor(&mut self, address: IpAddr) {
        match (address, self.source_address(address)) {
            (IpAddr::V4(target), Some(IpAddr::V4(own))) => {
                self.arp(1, MacAddr::BROADCAST, own, MacAddr::default(), target);
            }
            (IpAddr::V6(target), Some(IpAddr::V6(own))) => {
                let group = solicited_node(target);
                let mut data = target.octets().to_vec();
                data.extend([1, 1]);
                data.extend(self.mac.0);
                let solicitation = Packet { ttl: 255, ..Packet::icmp(own.into(), group.into(), 135, 0, [0; 4], &data) };
                let frame = self.wrap(multicast_mac(group), &solicitation);
                self.out.push_back(frame);
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => {}
        }
    }

    /// The own address from which to ask: of the same family, and with the longest common prefix.
    fn source_address(&self, other: IpAddr) -> Option<IpAddr> {
        let common = |own: &IpAddr| match (own, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => 0,
        };
        self.addresses.iter().filter(|own| own.is_ipv4() == other.is_ipv4()).max_by_key(|own| common(own)).copied()
    }

    fn arp(&mut self, op: u16, to: MacAddr, own: Ipv4Addr, target_mac: MacAddr, target: Ipv4Addr) {
        let mut body = vec![0, 1, 8, 0, 6, 4];
        body.extend(op.to_be_bytes());
        body.extend(self.mac.0);
        body.extend(own.octets());
        body.extend(target_mac.0);
        body.extend(target.octets());
        self.out.push_back(ethernet(to, self.mac, ETHERTYPE_ARP, &body));
    }

    fn receive_arp(&mut self, body: &[u8], now: Instant) {
        let Some(body) = body.get(..28).filter(|body| body[..6] == [0, 1, 8, 0, 6, 4]) else { return };
        let mac = MacAddr(body[8..14].try_into().expect("six bytes"));
        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&body[at..at + 4]).expect("four bytes"));
        let (sender, target) = (address(14), address(24));
        if !sender.is_unspecified() {
            self.learn(sender.into(), mac, now);
        }
        if body[7] == 1 && sender != target && self.addresses.contains(&target.into()) {
            self.arp(2, mac, target, mac, sender);
        }
    }

    /// Handles neighbour discovery; returns whether the packet was that or another link-local message.
    fn receive_discovery(&mut self, packet: &Packet, from: MacAddr, now: Instant) -> bool {
        if packet.protocol != protocol::ICMPV6 || !matches!(packet.payload.first(), Some(130..=137 | 143)) {
            return false;
        }
        let Some(target) = packet.payload.get(8..24).map(|t| Ipv6Addr::from(<[u8; 16]>::try_from(t).expect("sixteen")))
        else {
            return true;
        };
        if packet.ttl != 255 || !packet.checksum_ok() {
            return true;
        }
        let option = packet.payload.get(24..32).map(|option| MacAddr(option[2..8].try_into().expect("six bytes")));
        match (packet.payload[0], packet.source) {
            (135, IpAddr::V6(asker)) if self.addresses.contains(&target.into()) => {
                if asker.is_unspecified() {
                    self.advertise(target, target, all_nodes(), multicast_mac(all_nodes()), false);
                } else {
                    self.learn(asker.into(), option.unwrap_or(from), now);
                    self.advertise(target, target, asker, option.unwrap_or(from), true);
                }
            }
            (136, _) => self.learn(target.into(), option.unwrap_or(from), now),
            _ => {}
        }
        true
    }

    fn advertise(&mut self, own: Ipv6Addr, target: Ipv6Addr, to: Ipv6Addr, mac: MacAddr, solicited: bool) {
        let flags = 0x20 | if self.router { 0x80 } else { 0 } | if solicited { 0x40 } else { 0 };
        let mut data = target.octets().to_vec();
        data.extend([2, 1]);
        data.extend(self.mac.0);
        let packet = Packet { ttl: 255, ..Packet::icmp(own.into(), to.into(), 136, 0, [flags, 0, 0, 0], &data) };
        let frame = self.wrap(mac, &packet);
        self.out.push_back(frame);
    }
}

fn all_nodes() -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
}

/// The solicited-node multicast address (RFC 4291 section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (a & 0xff), b)
}

/// The MAC address of an IPv6 multicast address (RFC 2464 section 7).
fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(v6: bool) -> (NetworkInterface, NetworkInterface, IpAddr, IpAddr) {
        let (a, b): (IpAddr, IpAddr) = if v6 {
            ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
        } else {
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
        };
        let station = |last, address| NetworkInterface::new(MacAddr([2, 0, 0, 0, 0, last]), vec![address], false);
        (station(1, a), station(2, b), a, b)
    }

    #[test]
    fn a_packet_waits_for_the_answer_and_then_goes_to_the_neighbour() {
        for v6 in [false, true] {
            let (mut left, mut right, a, b) = pair(v6);
            let packet = Packet::udp((a, 1), (b, 2), b"x");

            left.send(packet.clone(), b, Instant::ZERO);
            let question = left.poll_transmit().unwrap();
            assert_eq!(right.receive(&question, Instant::ZERO), None);
            let answer = right.poll_transmit().unwrap();
            assert_eq!(left.receive(&answer, Instant::ZERO), None);
            let frame = left.poll_transmit().unwrap();

            let received = right.receive(&frame, Instant::ZERO).unwrap();
            assert_eq!((received.tuple(), received.payload), (packet.tuple(), packet.payload));
            assert_eq!((left.poll_transmit(), left.poll_timeout()), (None, None));
        }
    }

    #[test]
    fn a_changed_hardware_address_is_learned_from_the_announcement() {
        for v6 in [false, true] {
            let (mut left, mut right, a, b) = pair(v6);
            left.send(Packet::udp((a, 1), (b, 2), b"x"), b, Instant::ZERO);
            right.receive(&left.poll_transmit().unwrap(), Instant::ZERO);
            left.receive(&right.poll_transmit().unwrap(), Instant::ZERO);
            left.poll_transmit();

            right.change_mac(MacAddr([2, 0, 0, 0, 0, 9]));
            left.receive(&right.poll_transmit().unwrap(), Instant::ZERO);
            left.send(Packet::udp((a, 1), (b, 2), b"y"), b, Instant::ZERO);

            assert!(right.receive(&left.poll_transmit().unwrap(), Instant::ZERO).is_some());
        }
    }
}
