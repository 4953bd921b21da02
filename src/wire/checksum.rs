//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Two kinds of numbers occur here, and mixing them up is the classic error. A *sum* is the folded one's complement
//! sum. A *checksum* is the complement of a sum, as it stands in a header. A checksum field that the device is to
//! finish (Linux `CHECKSUM_PARTIAL`) holds a sum: that of the pseudo-header alone.

use std::net::IpAddr;

/// The one's complement sum of `bytes` as big-endian 16-bit words; an odd last byte is padded with zero (RFC 1071).
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut words = bytes.chunks_exact(4);
    let mut total: u64 = 0;
    for word in &mut words {
        total += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    fold(total + u64::from(u32::from_be_bytes(last)))
}

/// The checksum of `bytes`: the complement of their [`sum`].
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The one's complement sum of two sums. The sums of adjoining byte ranges may be added if the first has an even
/// length.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    let total = a as u32 + b as u32;
    (total as u16) + (total >> 16) as u16
}

/// The sum of the pseudo-header that the checksums of TCP, UDP and ICMPv6 cover (RFC 9293 section 3.1, RFC 8200 section
/// 8.1).
///
/// `length` counts the bytes of transport header and payload. Both addresses must be of the same family.
#[inline]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> u16 {
    let addresses = add(sum_of_address(source), sum_of_address(destination));
    add(addresses, fold(u64::from(length) + u64::from(protocol)))
}

/// Updates `checksum` for one 16-bit header word that changes from `old` to `new`.
///
/// This is RFC 1624 equation 3, `HC' = ~(~HC + ~m + m')`. The older equation 2 can yield 0xffff where 0x0000 is right.
///
/// ```
/// // The example of RFC 1624 section 4.
/// assert_eq!(fwlb::wire::checksum::update(0xdd2f, 0x5555, 0x3285), 0x0000);
/// ```
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !add(add(!checksum, !old), new)
}

/// Updates `checksum` for bytes, such as addresses, that change from `old` to `new`.
///
/// # Panics
/// If the lengths differ or are odd: the words would not line up.
pub fn update_bytes(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    !update_sum_bytes(!checksum, old, new)
}

/// Updates a *sum*, such as the field of a partial checksum, for one word that changes from `old` to `new`. The sign is
/// the opposite of that in [`update`].
///
/// The field of a partial checksum covers only the pseudo-header. A change of addresses, protocol or length is
/// therefore added to it; a change of ports is not, because the device sums the ports when it finishes the checksum
/// (rule A8.4 of `docs/protocols.md`; Linux `inet_proto_csum_replace4`).
#[inline]
pub const fn update_sum(sum: u16, old: u16, new: u16) -> u16 {
    add(add(sum, !old), new)
}

/// Does as [`update_sum`], for bytes that change from `old` to `new`.
///
/// # Panics
/// If the lengths differ or are odd: the words would not line up.
pub fn update_sum_bytes(sum_before: u16, old: &[u8], new: &[u8]) -> u16 {
    assert!(old.len() == new.len() && old.len().is_multiple_of(2), "{} bytes become {}", old.len(), new.len());
    update_sum(sum_before, sum(old), sum(new))
}

/// The value that UDP sends for `checksum`: a computed 0 becomes 0xffff, because 0 means "no checksum" (RFC 768).
#[inline]
pub const fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Does as [`is_valid`], for an IPv4 header without options.
#[inline]
pub fn is_valid_header(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    fold(words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum()) == 0xffff
}

/// True if the sum of `bytes`, checksum field included, is 0xffff, which it is if and only if the checksum is right.
#[inline]
pub fn is_valid(bytes: &[u8]) -> bool {
    sum(bytes) == 0xffff
}

const fn fold(total: u64) -> u16 {
    let total = (total >> 32) + (total & 0xffff_ffff);
    let total = (total >> 16) + (total & 0xffff);
    let total = (total >> 16) + (total & 0xffff);
    ((total >> 16) + (total & 0xffff)) as u16
}

fn sum_of_address(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of RFC 1071, word by word, with the carry added back each time.
    fn sum_by_definition(bytes: &[u8]) -> u16 {
        let mut total: u32 = 0;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            if total > 0xffff {
                total -= 0xffff;
            }
        }
        total as u16
    }

    #[test]
    fn the_example_of_rfc_1071_adds_up() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0xab]), 0xab00);
    }

    #[test]
    fn the_example_of_rfc_1624_gives_zero_where_the_older_equation_gave_all_ones() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn an_update_equals_recomputing_for_every_word() {
        let mut header = [0x45, 0, 0, 84, 0x12, 0x34, 0x40, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        for old in [0x0000, 0x0001, 0x7fff, 0xfffe, 0xffff, 0x1234] {
            header[4..6].copy_from_slice(&u16::to_be_bytes(old));
            let before = checksum(&header);
            for new in 0..=u16::MAX {
                header[4..6].copy_from_slice(&new.to_be_bytes());
                assert_eq!(update(before, old, new), checksum(&header), "{old:#06x} to {new:#06x}");
            }
        }
    }

    #[test]
    fn udp_never_sends_zero() {
        assert_eq!(nonzero(0), 0xffff);
        assert_eq!(nonzero(0xffff), 0xffff);
        assert_eq!(nonzero(1), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_add_up_as_defined(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes), sum_by_definition(&bytes));
        }

        #[test]
        fn sums_of_parts_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..100), cut in 0_usize..50) {
            let cut = (cut * 2).min(bytes.len() & !1);
            prop_assert_eq!(add(sum(&bytes[..cut]), sum(&bytes[cut..])), sum(&bytes));
        }

        #[test]
        fn an_address_update_equals_recomputing(
            mut header in proptest::collection::vec(1_u8.., 40),
            address in any::<[u8; 16]>(),
        ) {
            let before = checksum(&header);
            let old: [u8; 16] = header[8..24].try_into().unwrap();
            header[8..24].copy_from_slice(&address);

            prop_assert_eq!(update_bytes(before, &old, &address), checksum(&header));
        }

        #[test]
        fn a_wrong_checksum_stays_wrong_by_as_much(
            wrong in any::<u16>(), right in any::<u16>(), old in any::<u16>(), new in any::<u16>(),
        ) {
            let error = |a: u16, b: u16| add(a, !b) % 0xffff;
            prop_assert_eq!(error(update(wrong, old, new), update(right, old, new)), error(wrong, right));
        }

        /// The field of a partial checksum follows an address change, and the finished checksum is that of the new
        /// packet.
        #[test]
        fn a_partial_field_follows_the_addresses(
            source in any::<[u8; 4]>(), destination in any::<[u8; 4]>(), other in any::<[u8; 4]>(),
            payload in proptest::collection::vec(any::<u8>(), 8..64),
        ) {
            let length = payload.len() as u32;
            let field = pseudo_header(source.into(), destination.into(), 17, length);

            let moved = update_sum_bytes(field, &source, &other);

            let wanted = pseudo_header(other.into(), destination.into(), 17, length);
            prop_assert_eq!(!add(moved, sum(&payload)) % 0xffff, !add(wanted, sum(&payload)) % 0xffff);
        }
    }

    #[test]
    fn pseudo_headers_agree_with_a_second_implementation() {
        use pnet_packet::udp::{UdpPacket, ipv4_checksum, ipv6_checksum};
        use std::net::{Ipv4Addr, Ipv6Addr};

        let datagram = [0x12, 0x34, 0x00, 0x35, 0x00, 0x0b, 0x00, 0x00, 0x61, 0x62, 0x63];
        let packet = UdpPacket::new(&datagram).unwrap();
        let ours = |source: IpAddr, destination: IpAddr| {
            !add(pseudo_header(source, destination, 17, datagram.len() as u32), sum(&datagram))
        };

        let (source, destination) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 255));
        assert_eq!(ours(source.into(), destination.into()), ipv4_checksum(&packet, &source, &destination));
        let (source, destination): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "ff02::1".parse().unwrap());
        assert_eq!(ours(source.into(), destination.into()), ipv6_checksum(&packet, &source, &destination));
    }
}
