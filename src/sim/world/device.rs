//! What network devices do to frames between a node and its cable: they leave checksums and segmentation undone, and
//! finish them.

use crate::sim::packet::{Packet, ethernet, split_ethernet};
use crate::sim::sim_engine::CableFrame;
use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};

/// The frame as a virtual device passes it on: with only the sum of the pseudo header in its checksum field.
pub(super) fn with_partial_checksum(frame: CableFrame) -> CableFrame {
    let Some(packet) = split_ethernet(&frame.bytes).and_then(|(.., payload)| Packet::parse(payload)) else {
        return frame;
    };
    match packet.partial_checksum() {
        Some((sum, offset)) if frame.offload == Offload::NONE && packet.checksum_ok() => {
            let start = 14 + packet.len() - packet.payload.len();
            let mut bytes = frame.bytes;
            bytes[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
            let partial = PartialChecksum { start: start as u16, offset: offset as u16 };
            CableFrame { offload: Offload { partial: Some(partial), ..Offload::NONE }, bytes }
        }
        Some(_) | None => frame,
    }
}

/// The frame with its checksum finished, as a device does it before the cable.
pub fn completed(mut frame: CableFrame) -> CableFrame {
    let Some(partial) = frame.offload.partial.take() else { return frame };
    let (start, at) = (usize::from(partial.start), usize::from(partial.start) + usize::from(partial.offset));
    let end = split_ethernet(&frame.bytes).and_then(|(.., payload)| Packet::parse(payload)).map(|p| 14 + p.len());
    if let Some(summed) = frame.bytes.get(start..end.unwrap_or(frame.bytes.len())) {
        // RFC 768: zero means "no checksum" in UDP; for TCP both forms of zero are equal.
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

/// Bytes of the largest frame on a cable.
const FRAME_MAX: usize = 1514;

/// Payload bytes of the segments of a super-frame, which fit every link of the simulation.
const SEGMENT: usize = 1400;

/// A TCP frame larger than a segment as its sender's device passes it on, to be segmented by the last device.
pub(super) fn with_segmentation(frame: CableFrame) -> CableFrame {
    let Some(packet) = split_ethernet(&frame.bytes).and_then(|(.., payload)| Packet::parse(payload)) else {
        return frame;
    };
    let headers = tcp_header(&packet);
    let (Some(headers), Offload::NONE) = (headers, frame.offload) else { return frame };
    if frame.bytes.len() <= FRAME_MAX {
        return frame;
    }
    let mut frame = with_partial_checksum(frame);
    let kind = if packet.source.is_ipv4() { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
    let header_len = (14 + packet.len() - packet.payload.len() + headers) as u16;
    frame.offload.gso = Some(Gso { kind, ecn: false, size: SEGMENT as u16, header_len });
    frame
}

/// The segments of a super-frame, as they leave the device.
pub(super) fn segmented(frame: CableFrame) -> Vec<CableFrame> {
    let Some(gso) = frame.offload.gso else { return vec![frame] };
    let Some((destination, source, ethertype, payload)) = split_ethernet(&frame.bytes) else { return vec![frame] };
    let Some(packet) = Packet::parse(payload) else { return vec![frame] };
    let Some(headers) = tcp_header(&packet) else { return vec![frame] };
    let (header, data) = packet.payload.split_at(headers);
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let count = data.len().div_ceil(usize::from(gso.size));
    let cut = |(number, chunk): (usize, &[u8])| {
        let mut payload = header.to_vec();
        payload[4..8].copy_from_slice(&sequence.wrapping_add((number * usize::from(gso.size)) as u32).to_be_bytes());
        if number + 1 < count {
            // FIN and PSH belong to the last segment.
            payload[13] &= !0x09;
        }
        payload.extend_from_slice(chunk);
        let ident = packet.ident.wrapping_add(number as u16);
        let segment = Packet { ident, payload, ..packet.clone() }.with_checksum();
        CableFrame::new(ethernet(destination, source, ethertype, &segment.emit()))
    };
    data.chunks(usize::from(gso.size)).enumerate().map(cut).collect()
}

/// Bytes of the TCP header of a whole segment.
fn tcp_header(packet: &Packet) -> Option<usize> {
    packet.tcp_flags()?;
    let bytes = usize::from(packet.payload[12] >> 4) * 4;
    (bytes >= 20 && bytes <= packet.payload.len()).then_some(bytes)
}
