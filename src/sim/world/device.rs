//! What network devices do to frames between a node and its cable: they leave checksums undone, and finish them.

use crate::sim::appliance::Frame;
use crate::sim::packet::{Packet, split_ethernet};
use crate::wire::offload::Offload;

/// The frame as a virtual device hands it on: the checksum field holds the sum of the pseudo header only.
pub(super) fn with_partial_checksum(frame: Frame) -> Frame {
    let Some(packet) = split_ethernet(&frame.bytes).and_then(|(.., payload)| Packet::parse(payload)) else {
        return frame;
    };
    match packet.partial_checksum() {
        Some((sum, offset)) if frame.offload == Offload::NONE && packet.checksum_ok() => {
            let start = 14 + packet.len() - packet.payload.len();
            let mut bytes = frame.bytes;
            bytes[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
            let partial = crate::wire::offload::PartialChecksum { start: start as u16, offset: offset as u16 };
            Frame { offload: Offload { partial: Some(partial), ..Offload::NONE }, bytes }
        }
        Some(_) | None => frame,
    }
}

/// The frame with its checksum finished, as a device does before the wire.
pub(super) fn completed(mut frame: Frame) -> Frame {
    let Some(partial) = frame.offload.partial.take() else { return frame };
    let (start, at) = (usize::from(partial.start), usize::from(partial.start) + usize::from(partial.offset));
    let end = split_ethernet(&frame.bytes).and_then(|(.., payload)| Packet::parse(payload)).map(|p| 14 + p.len());
    if let Some(summed) = frame.bytes.get(start..end.unwrap_or(frame.bytes.len())) {
        // RFC 768: zero means "no checksum" in UDP; to TCP both forms of zero are the same.
        let sum = match crate::sim::packet::checksum(summed) {
            0 => 0xffff,
            sum => sum,
        };
        if let Some(field) = frame.bytes.get_mut(at..at + 2) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
    frame
}
