//! In-place translation of addresses and ports, with every checksum that covers them (RFC 3022 section 4.1, RFC 1624).
//!
//! A wrong transport checksum stays wrong by the same difference, so that damage is never hidden (rule A8.3 of
//! `docs/protocols.md`). A partial checksum holds the sum of the pseudo-header: a change of addresses is applied to it,
//! a change of ports is not (rule A8.4). A UDP checksum of 0 means "none" and stays 0, over IPv4 (RFC 768) and over
//! IPv6, where tunnels may send it (RFC 6935, RFC 6936; Linux `nf_nat_proto.c` does the same). The receiver, who knows
//! the port, decides whether to accept it.

use std::net::IpAddr;

use crate::wire::Family;
use crate::wire::checksum;
use crate::wire::frame::{ETHERNET_LEN, Fragment, Frame, Tuple, ipv6, protocol};
use crate::wire::offload::Offload;

/// Why a packet cannot be translated and has to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Untranslatable {
    /// The first fragment ends before the checksum field that covers its ports.
    #[error("the first fragment ends before the transport checksum")]
    ChecksumNotInFragment,
    /// The ports change, and their checksum cannot be updated incrementally (the CRC32c of SCTP).
    #[error("the transport checksum cannot follow a change of ports")]
    NoIncrementalChecksum,
    /// The ICMP error quotes too little of its packet to be translated.
    #[error("the ICMP error quotes too little of its packet")]
    QuotedTooLittle,
}

/// A checksum field: its offset from the start of the transport header, and the meaning of 0 in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChecksumField {
    at: usize,
    zero: ZeroMeaning,
}

/// What the value 0 means in a checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ZeroMeaning {
    /// 0 is a checksum like any other.
    Ordinary,
    /// 0 is never sent: a computed 0 is sent as 0xffff (RFC 3828 section 3.1).
    NotSent,
    /// 0 means "no checksum" and stays 0; a computed 0 is sent as 0xffff (RFC 768).
    NoChecksum,
}

/// What the transport checksum covers, and whether it can be updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coverage {
    /// It covers neither addresses nor ports.
    Nothing,
    /// It covers the pseudo-header and the ports.
    PseudoHeader(ChecksumField),
    /// It covers the ports but not the addresses, and cannot be updated incrementally.
    NotUpdatable,
}

const fn coverage(protocol: u8) -> Coverage {
    match protocol {
        protocol::TCP => Coverage::PseudoHeader(ChecksumField { at: 16, zero: ZeroMeaning::Ordinary }),
        protocol::UDP => Coverage::PseudoHeader(ChecksumField { at: 6, zero: ZeroMeaning::NoChecksum }),
        protocol::UDP_LITE => Coverage::PseudoHeader(ChecksumField { at: 6, zero: ZeroMeaning::NotSent }),
        protocol::DCCP => Coverage::PseudoHeader(ChecksumField { at: 6, zero: ZeroMeaning::Ordinary }),
        protocol::ICMPV6 => Coverage::PseudoHeader(ChecksumField { at: 2, zero: ZeroMeaning::Ordinary }),
        protocol::SCTP => Coverage::NotUpdatable,
        _ => Coverage::Nothing,
    }
}

impl Frame<'_> {
    /// Replaces the packet's addresses and, where it has ports, its ports by those of `to`.
    ///
    /// Family and protocol of `to` must be those of the packet. Of a fragment after the first only the addresses
    /// change. If an error is returned, nothing was changed.
    pub fn translate(&mut self, to: &Tuple, offload: &Offload) -> Result<(), Untranslatable> {
        let transport = self.transport_offset();
        let later = matches!(self.layout.fragment, Fragment::Later { .. });
        let from = self.tuple();
        let ports = protocol::has_ports(from.protocol) && !later;
        let change = TupleChange::between(&from, to, ports);
        let field = match coverage(from.protocol) {
            _ if later => None,
            Coverage::Nothing => None,
            Coverage::NotUpdatable if change.ports => return Err(Untranslatable::NoIncrementalChecksum),
            Coverage::NotUpdatable => None,
            Coverage::PseudoHeader(field) if transport + field.at + 2 > self.layout.end as usize => {
                return Err(Untranslatable::ChecksumNotInFragment);
            }
            Coverage::PseudoHeader(field) => Some(field),
        };
        if let Some(field) = field {
            let at = transport + field.at;
            let is_partial = offload.partial.is_some_and(|partial| usize::from(partial.start + partial.offset) == at);
            let old = self.word(at);
            let new = if is_partial { change.of_sum(old) } else { change.of_checksum(old, field) };
            self.put_word(at, new);
        }
        self.put_addresses(to.source, to.destination);
        if ports {
            self.put_word(transport, to.source_port);
            self.put_word(transport + 2, to.destination_port);
            self.layout.source_port = to.source_port;
            self.layout.destination_port = to.destination_port;
        }
        Ok(())
    }

    /// Translates an ICMP error: the packet that it quotes becomes `quoted`, and its own addresses become `source` and
    /// `destination` (RFC 5508 REQ-4, REQ-5). All families must be that of the packet.
    ///
    /// If an error is returned, nothing was changed.
    pub fn translate_error(
        &mut self,
        quoted: &Tuple,
        source: IpAddr,
        destination: IpAddr,
        offload: &Offload,
    ) -> Result<(), Untranslatable> {
        const CHECKSUM: usize = 2;
        const QUOTE: usize = 8;
        let transport = self.transport_offset();
        let (start, end) = (transport + QUOTE, self.layout.end as usize);
        let family = self.family();
        let at = transport + CHECKSUM;
        let is_partial = offload.partial.is_some_and(|partial| usize::from(partial.start + partial.offset) == at);
        let quote = &mut self.bytes[start..end];
        let before = checksum::sum(quote);
        translate_quote(quote, family, quoted)?;
        let after = checksum::sum(quote);
        let old = self.word(at);
        let new = match (family, is_partial) {
            (Family::V4, true) => old,
            (Family::V4, false) => checksum::update(old, before, after),
            (Family::V6, true) => self.address_change(source, destination).of_sum(old),
            (Family::V6, false) => {
                let change = self.address_change(source, destination);
                checksum::update(checksum::update(old, before, after), change.old_addresses, change.new_addresses)
            }
        };
        self.put_word(at, new);
        self.put_addresses(source, destination);
        Ok(())
    }

    fn address_change(&self, source: IpAddr, destination: IpAddr) -> TupleChange {
        let from = self.tuple();
        TupleChange::between(&from, &Tuple { source, destination, ..from }, false)
    }

    /// Writes both addresses and updates the IPv4 header checksum.
    fn put_addresses(&mut self, source: IpAddr, destination: IpAddr) {
        let header = &mut self.bytes[ETHERNET_LEN..];
        put_addresses(header, source, destination);
    }

    fn put_word(&mut self, at: usize, word: u16) {
        self.bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
    }
}

/// A change of addresses and ports, as the sums of the old and the new words.
#[derive(Debug, Clone, Copy)]
struct TupleChange {
    old_addresses: u16,
    new_addresses: u16,
    old_ports: u16,
    new_ports: u16,
    ports: bool,
}

impl TupleChange {
    fn between(from: &Tuple, to: &Tuple, ports: bool) -> Self {
        let addresses = |tuple: &Tuple| checksum::pseudo_header(tuple.source, tuple.destination, 0, 0);
        let sum_of_ports =
            |tuple: &Tuple| if ports { checksum::add(tuple.source_port, tuple.destination_port) } else { 0 };
        Self {
            old_addresses: addresses(from),
            new_addresses: addresses(to),
            old_ports: sum_of_ports(from),
            new_ports: sum_of_ports(to),
            ports: ports && (from.source_port, from.destination_port) != (to.source_port, to.destination_port),
        }
    }

    fn of_sum(&self, old: u16) -> u16 {
        checksum::update_sum(old, self.old_addresses, self.new_addresses)
    }

    fn of_checksum(&self, old: u16, field: ChecksumField) -> u16 {
        let updated = || {
            let new = checksum::update(old, self.old_addresses, self.new_addresses);
            checksum::update(new, self.old_ports, self.new_ports)
        };
        match (field.zero, old) {
            (ZeroMeaning::NoChecksum, 0) => 0,
            (ZeroMeaning::NoChecksum | ZeroMeaning::NotSent, _) => checksum::nonzero(updated()),
            (ZeroMeaning::Ordinary, _) => updated(),
        }
    }
}

/// Writes both addresses into an IP header and updates the IPv4 header checksum.
fn put_addresses(header: &mut [u8], source: IpAddr, destination: IpAddr) {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut new = [0; 8];
            new[..4].copy_from_slice(&source.octets());
            new[4..].copy_from_slice(&destination.octets());
            let checksum = u16::from_be_bytes([header[10], header[11]]);
            let updated = checksum::update_bytes(checksum, &header[12..20], &new);
            header[10..12].copy_from_slice(&updated.to_be_bytes());
            header[12..20].copy_from_slice(&new);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            header[8..24].copy_from_slice(&source.octets());
            header[24..40].copy_from_slice(&destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            debug_assert!(false, "a packet has one family");
        }
    }
}

/// Translates the packet that an ICMP error quotes, as far as it is quoted.
fn translate_quote(quote: &mut [u8], family: Family, to: &Tuple) -> Result<(), Untranslatable> {
    let from = super::quoted::tuple(quote, family).ok_or(Untranslatable::QuotedTooLittle)?;
    let (transport, later) = match family {
        Family::V4 => {
            let later = u16::from_be_bytes([quote[6], quote[7]]) & 0x1fff != 0;
            (usize::from(quote[0] & 0x0f) * 4, later)
        }
        Family::V6 => {
            let chain = ipv6::walk(quote[6], &quote[40..]).map_err(|_| Untranslatable::QuotedTooLittle)?;
            (40 + chain.offset, chain.fragment.is_some_and(|fragment| fragment.offset != 0))
        }
    };
    let ports = protocol::has_ports(from.protocol) && !later;
    let change = TupleChange::between(&from, to, ports);
    if let Coverage::PseudoHeader(field) = coverage(from.protocol)
        && !later
        && let Some(bytes) = quote.get_mut(transport + field.at..transport + field.at + 2)
    {
        let old = u16::from_be_bytes([bytes[0], bytes[1]]);
        bytes.copy_from_slice(&change.of_checksum(old, field).to_be_bytes());
    }
    put_addresses(quote, to.source, to.destination);
    if ports {
        quote[transport..transport + 2].copy_from_slice(&to.source_port.to_be_bytes());
        quote[transport + 2..transport + 4].copy_from_slice(&to.destination_port.to_be_bytes());
    }
    Ok(())
}
