//! The Virtual Router Redundancy Protocol: advertisements of version 3 (RFC 9568) and version 2 (RFC 3768).
//!
//! ```text
//!  version and type | VRID | priority | number of addresses          one byte each
//!  version 3: interval in centiseconds, 12 bits | version 2: authentication type, interval in seconds
//!  checksum (16 bits) | addresses | version 2: 8 bytes of authentication data
//! ```
//!
//! This module reads and builds packets. What they mean is decided by [`crate::ha`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

use crate::time::Duration;
use crate::wire::checksum;
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::frame::{ETHERNET_LEN, IPV4_LEN, ethertype};
use crate::wire::ndp::multicast_mac;
use crate::wire::{Family, MacAddr};

/// The IP protocol number of VRRP (RFC 9568 section 5.1.1.4).
pub const PROTOCOL: u8 = 112;
/// The group of all VRRP routers, IPv4 (RFC 9568 section 5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The group of all VRRP routers, IPv6 (RFC 9568 section 5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// The TTL and hop limit of every advertisement. One with another was forwarded, and is discarded (section 5.1.1.3).
pub const HOP_LIMIT: u8 = 255;
/// The longest interval that version 3 can say: 40.95 s.
pub const INTERVAL_MAX: Duration = Duration::from_millis(40_950);
/// The most addresses in one advertisement.
pub const ADDRESSES_MAX: usize = 255;
/// Length of an advertisement without addresses, in bytes.
pub const HEADER: usize = 8;
/// Length of the authentication data of version 2, in bytes.
const AUTHENTICATION: usize = 8;
const ADVERTISEMENT: u8 = 1;
/// DSCP CS6, network control (RFC 4594 section 3.1), in the byte of the IPv4 header.
const NETWORK_CONTROL: u8 = 48 << 2;

/// The version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// Version 2: IPv4 alone, whole seconds.
    V2,
    /// Version 3.
    #[default]
    V3,
}

impl Version {
    /// The version with this number, if it is one that this engine has.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// What the checksum of a version 3 advertisement over IPv4 covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChecksumForm {
    /// The message and a pseudo-header, as most read RFC 5798 section 5.2.8.
    #[default]
    PseudoHeader,
    /// The message alone (RFC 9568 section 5.2.8).
    MessageAlone,
}

/// An advertisement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// The version of the protocol.
    pub version: Version,
    /// The virtual router identifier, 1..=255.
    pub vrid: u8,
    /// The priority of the sender; 0 from one that stops.
    pub priority: u8,
    /// The time between two of them: in steps of 10 ms, in version 2 of one second.
    pub interval: Duration,
    /// The floating addresses, all of the family of the packet; at least one.
    pub addresses: Vec<IpAddr>,
}

/// An advertisement as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What it says.
    pub advertisement: Advertisement,
    /// Hardware address of the sender, which should be the virtual one.
    pub source_mac: MacAddr,
    /// Source and destination of the packet.
    pub pair: AddressPair,
    /// What its checksum covers.
    pub checksum: ChecksumForm,
}

/// Why a frame is not a believable advertisement (RFC 9568 section 7.1). Each has no effect but a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAdvertisement {
    /// The packet is not VRRP, or is shorter than it says.
    #[error("not a complete VRRP packet")]
    Length,
    /// It was forwarded by a router.
    #[error("TTL or hop limit is {0}, not 255")]
    HopLimit(u8),
    /// It has another version.
    #[error("VRRP version {0}, this engine reads 2 and 3")]
    Version(u8),
    /// It is no advertisement.
    #[error("VRRP type {0} is not an advertisement")]
    Type(u8),
    /// The checksum is wrong in both forms.
    #[error("VRRP checksum is wrong")]
    Checksum,
    /// The virtual router identifier is 0.
    #[error("virtual router identifier 0")]
    Vrid,
    /// The interval is 0.
    #[error("interval 0")]
    Interval,
    /// It lists no address (RFC 9568 erratum 8299).
    #[error("no address")]
    Count,
    /// Version 2 with authentication, which this engine does not have.
    #[error("VRRP version 2 authentication type {0}, expected 0")]
    Authentication(u8),
}

impl InvalidAdvertisement {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::HopLimit(_) => "ttl",
            Self::Version(_) => "version",
            Self::Type(_) => "type",
            Self::Checksum => "checksum",
            Self::Vrid => "vrid",
            Self::Interval => "interval",
            Self::Count => "count",
            Self::Authentication(_) => "authentication",
        }
    }
}

/// The virtual MAC address of a virtual router (RFC 9568 section 7.3).
pub const fn virtual_mac(family: Family, vrid: u8) -> MacAddr {
    let family = match family {
        Family::V4 => 1,
        Family::V6 => 2,
    };
    MacAddr([0x00, 0x00, 0x5e, 0x00, family, vrid])
}

/// True for the virtual MAC address of any virtual router.
pub const fn is_virtual_mac(mac: MacAddr) -> bool {
    matches!(mac.0, [0x00, 0x00, 0x5e, 0x00, 1 | 2, _])
}

/// The multicast destination of a family.
pub const fn group(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(GROUP_V4),
        Family::V6 => IpAddr::V6(GROUP_V6),
    }
}

/// The Ethernet address of the multicast destination of a family (RFC 1112 section 6.4, RFC 2464 section 7).
pub const fn group_mac(family: Family) -> MacAddr {
    match family {
        Family::V4 => MacAddr([0x01, 0x00, 0x5e, 0x00, 0x00, 0x12]),
        Family::V6 => multicast_mac(GROUP_V6),
    }
}

/// How long a backup of this priority waits beyond three intervals, so that the best one is first: Skew_Time (RFC 9568
/// section 6.1).
pub fn skew_time(priority: u8, interval: Duration) -> Duration {
    interval * (256 - u32::from(priority)) / 256
}

/// How long the active router may be silent: Active_Down_Interval (RFC 9568 section 6.1).
pub fn active_down_interval(priority: u8, interval: Duration) -> Duration {
    interval * 3 + skew_time(priority, interval)
}

impl Advertisement {
    /// Builds the frame of the advertisement. Only addresses of the family of `pair` are listed, at most
    /// [`ADDRESSES_MAX`]. In version 2 the interval is rounded up to whole seconds.
    pub fn frame(&self, macs: MacPair, pair: AddressPair, form: ChecksumForm) -> Vec<u8> {
        let of_family = |address: &&IpAddr| Family::of(**address) == pair.family();
        let addresses: Vec<IpAddr> = self.addresses.iter().filter(of_family).take(ADDRESSES_MAX).copied().collect();
        let message = self.message(&addresses, pair, form);
        let mut frame = emit::ip(macs, pair, PROTOCOL, HOP_LIMIT, message.len(), |bytes| {
            bytes.copy_from_slice(&message);
        });
        let header = &mut frame[ETHERNET_LEN..];
        match pair.family() {
            Family::V4 => {
                header[1] = NETWORK_CONTROL;
                header[10..12].fill(0);
                let sum = checksum::checksum(&header[..IPV4_LEN]);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => {
                header[0] |= NETWORK_CONTROL >> 4;
                header[1] |= NETWORK_CONTROL << 4;
            }
        }
        frame
    }

    fn message(&self, addresses: &[IpAddr], pair: AddressPair, form: ChecksumForm) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + addresses.len() * 16);
        let (version, time) = match self.version {
            // Authentication type 0, and the interval in seconds.
            Version::V2 => (2, u16::from(u8::try_from(self.interval.as_millis().div_ceil(1000)).unwrap_or(u8::MAX))),
            Version::V3 => (3, (self.interval.min(INTERVAL_MAX).as_millis() / 10) as u16),
        };
        message.extend_from_slice(&[version << 4 | ADVERTISEMENT, self.vrid, self.priority, addresses.len() as u8]);
        message.extend_from_slice(&time.to_be_bytes());
        message.extend_from_slice(&[0, 0]);
        for address in addresses {
            match address {
                IpAddr::V4(address) => message.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => message.extend_from_slice(&address.octets()),
            }
        }
        if self.version == Version::V2 {
            message.extend_from_slice(&[0; AUTHENTICATION]);
        }
        let sum = match has_pseudo_header(self.version, pair.family(), form) {
            true => checksum::add(checksum::sum(&message), pseudo_header(pair, message.len())),
            false => checksum::sum(&message),
        };
        message[6..8].copy_from_slice(&(!sum).to_be_bytes());
        message
    }
}

/// True if the frame carries VRRP, valid or not. It must be an Ethernet frame without a VLAN tag.
pub fn is_vrrp(frame: &[u8]) -> bool {
    let Some(packet) = frame.get(ETHERNET_LEN..) else { return false };
    match u16::from_be_bytes([frame[12], frame[13]]) {
        ethertype::IPV4 => packet.get(9) == Some(&PROTOCOL),
        ethertype::IPV6 => packet.get(6) == Some(&PROTOCOL),
        _ => false,
    }
}

/// Reads the advertisement of a frame and checks what RFC 9568 section 7.1 says about every receiver.
pub fn parse(frame: &[u8]) -> Result<Received, InvalidAdvertisement> {
    use InvalidAdvertisement::Length;
    if !is_vrrp(frame) {
        return Err(Length);
    }
    let (ethernet, packet) = frame.split_at(ETHERNET_LEN);
    let source_mac = MacAddr(*ethernet[6..].first_chunk().ok_or(Length)?);
    let (pair, hop_limit, message) = match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
        ethertype::IPV4 => {
            let packet = Ipv4Packet::new_checked(packet).map_err(|_| Length)?;
            if packet.more_frags() || packet.frag_offset() != 0 || !packet.verify_checksum() {
                return Err(Length);
            }
            (AddressPair::V4(packet.src_addr(), packet.dst_addr()), packet.hop_limit(), packet.payload())
        }
        _ => {
            let packet = Ipv6Packet::new_checked(packet).map_err(|_| Length)?;
            (AddressPair::V6(packet.src_addr(), packet.dst_addr()), packet.hop_limit(), packet.payload())
        }
    };
    // RFC 9568 section 7.1: "MUST verify that the IPv4 TTL/IPv6 Hop Limit is 255".
    if hop_limit != HOP_LIMIT {
        return Err(InvalidAdvertisement::HopLimit(hop_limit));
    }
    let (advertisement, checksum) = read(message, pair)?;
    Ok(Received { advertisement, source_mac, pair, checksum })
}

fn read(message: &[u8], pair: AddressPair) -> Result<(Advertisement, ChecksumForm), InvalidAdvertisement> {
    let &[first, vrid, priority, count, high, low, _, _] =
        message.first_chunk::<HEADER>().ok_or(InvalidAdvertisement::Length)?;
    let version = match first >> 4 {
        2 if pair.family() == Family::V4 => Version::V2,
        3 => Version::V3,
        other => return Err(InvalidAdvertisement::Version(other)),
    };
    if first & 0xf != ADVERTISEMENT {
        return Err(InvalidAdvertisement::Type(first & 0xf));
    }
    let width = match pair.family() {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    let end = HEADER + usize::from(count) * width;
    let needed = match version {
        Version::V2 => end + AUTHENTICATION,
        Version::V3 => end,
    };
    if message.len() < needed {
        return Err(InvalidAdvertisement::Length);
    }
    let checksum = form_of(message, version, pair).ok_or(InvalidAdvertisement::Checksum)?;
    let interval = match version {
        Version::V2 if high != 0 => return Err(InvalidAdvertisement::Authentication(high)),
        Version::V2 => Duration::from_secs(u64::from(low)),
        Version::V3 => Duration::from_millis(u64::from(u16::from_be_bytes([high & 0xf, low])) * 10),
    };
    if vrid == 0 {
        return Err(InvalidAdvertisement::Vrid);
    }
    if interval.is_zero() {
        return Err(InvalidAdvertisement::Interval);
    }
    if count == 0 {
        return Err(InvalidAdvertisement::Count);
    }
    let address = |bytes: &[u8]| match pair.family() {
        Family::V4 => bytes.try_into().map(|octets: [u8; 4]| IpAddr::from(octets)),
        Family::V6 => bytes.try_into().map(|octets: [u8; 16]| IpAddr::from(octets)),
    };
    let addresses = message[HEADER..end].chunks_exact(width).filter_map(|bytes| address(bytes).ok()).collect();
    Ok((Advertisement { version, vrid, priority, interval, addresses }, checksum))
}

/// The form in which the checksum of the message is right; `None` if it is wrong in each that the version has.
fn form_of(message: &[u8], version: Version, pair: AddressPair) -> Option<ChecksumForm> {
    let with_pseudo_header = || checksum::add(checksum::sum(message), pseudo_header(pair, message.len())) == 0xffff;
    let alone = || checksum::is_valid(message);
    match (version, pair.family()) {
        (Version::V2, _) => alone().then_some(ChecksumForm::MessageAlone),
        (Version::V3, Family::V6) => with_pseudo_header().then_some(ChecksumForm::PseudoHeader),
        (Version::V3, Family::V4) if with_pseudo_header() => Some(ChecksumForm::PseudoHeader),
        (Version::V3, Family::V4) => alone().then_some(ChecksumForm::MessageAlone),
    }
}

/// Version 2 has no pseudo-header, IPv6 always has one (RFC 8200 section 8.1), and version 3 over IPv4 has both forms.
fn has_pseudo_header(version: Version, family: Family, form: ChecksumForm) -> bool {
    match (version, family) {
        (Version::V2, _) => false,
        (Version::V3, Family::V6) => true,
        (Version::V3, Family::V4) => form == ChecksumForm::PseudoHeader,
    }
}

fn pseudo_header(pair: AddressPair, length: usize) -> u16 {
    checksum::pseudo_header(pair.source(), pair.destination(), PROTOCOL, length as u32)
}

#[cfg(test)]
mod tests;
