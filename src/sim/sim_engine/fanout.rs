//! Which worker of an engine gets a frame.

use crate::sim::packet::{Packet, split_ethernet};
use crate::sim::rng::Rng;

/// A hash with the properties of the kernel's fanout hash: equal for both directions of a flow, and over the addresses
/// only for fragments.
pub(super) fn fanout(frame: &[u8]) -> u64 {
    let Some((.., payload)) = split_ethernet(frame) else { return 0 };
    let Some(packet) = Packet::parse(payload) else { return 0 };
    let tuple = packet.tuple().canonical();
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => u128::from(address.to_bits()),
        std::net::IpAddr::V6(address) => address.to_bits(),
    };
    let ports =
        if packet.fragment.is_some() { 0 } else { u128::from(tuple.source.1) ^ u128::from(tuple.destination.1) };
    let mix = octets(packet.source) ^ octets(packet.destination) ^ ports;
    Rng::new(mix as u64 ^ (mix >> 64) as u64).next_u64()
}
