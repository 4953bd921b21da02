//! In-place edits of a validated frame. Every byte that is not edited leaves as it came.

use crate::wire::frame::{ETHERNET_LEN, Frame};
use crate::wire::offload::{self, InvalidPartial, PartialChecksum};
use crate::wire::{Family, MacAddr, checksum};

impl Frame<'_> {
    /// Rewrites the source and destination MAC address.
    #[inline]
    pub fn set_macs(&mut self, source: MacAddr, destination: MacAddr) {
        self.bytes[..6].copy_from_slice(&destination.0);
        self.bytes[6..12].copy_from_slice(&source.0);
    }

    /// Completes a transport checksum that was left to the device. Fails if the range to sum starts before the
    /// transport header or does not fit the packet.
    pub fn finish_checksum(&mut self, partial: PartialChecksum) -> Result<(), InvalidPartial> {
        let end = self.layout.end as usize;
        if usize::from(partial.start) < self.transport_offset() {
            let PartialChecksum { start, offset } = partial;
            return Err(InvalidPartial { start, offset, length: end });
        }
        offload::finish_checksum(&mut self.bytes[..end], partial)
    }

    /// Decrements the TTL or hop limit and updates the IPv4 header checksum (RFC 1624). The caller has checked that it
    /// is at least 2; a value of 0 stays 0.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        match self.family() {
            Family::V4 => {
                const TTL: usize = ETHERNET_LEN + 8;
                const CHECKSUM: usize = ETHERNET_LEN + 10;
                let old = self.word(TTL);
                let new = if old < 0x100 { old } else { old - 0x100 };
                self.bytes[TTL] = (new >> 8) as u8;
                let updated = checksum::update(self.word(CHECKSUM), old, new);
                self.bytes[CHECKSUM..CHECKSUM + 2].copy_from_slice(&updated.to_be_bytes());
            }
            Family::V6 => {
                const HOP_LIMIT: usize = ETHERNET_LEN + 7;
                self.bytes[HOP_LIMIT] = self.bytes[HOP_LIMIT].saturating_sub(1);
            }
        }
    }
}
