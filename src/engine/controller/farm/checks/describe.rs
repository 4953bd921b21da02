//! Describes the frames of a check in words.

use std::net::SocketAddr;

use super::CheckKey;
use crate::engine::controller::links::read_segment;
use crate::wire::frame::{Frame, protocol, tcp_flags};
use crate::wire::offload::Offload;
use crate::wire::tcp::Segment;

/// `TCP SYN, ACK`, with the bytes that it carries.
pub(super) fn describe(segment: &Segment<'_>) -> String {
    let names = [
        (tcp_flags::SYN, "SYN"),
        (tcp_flags::FIN, "FIN"),
        (tcp_flags::RST, "RST"),
        (tcp_flags::PSH, "PSH"),
        (tcp_flags::ACK, "ACK"),
    ];
    let set: Vec<&str> = names.iter().filter(|(flag, _)| segment.flags & flag != 0).map(|(_, name)| *name).collect();
    match segment.payload.len() {
        0 => format!("TCP {}", set.join(", ")),
        bytes => format!("TCP {}, {bytes} bytes", set.join(", ")),
    }
}

/// Describes a frame of a check.
pub(super) fn describe_frame(frame: &[u8], key: CheckKey) -> String {
    let (local, remote) = (SocketAddr::new(key.local, key.port), SocketAddr::new(key.remote, key.remote_port));
    if key.protocol != protocol::TCP {
        return format!("ICMP echo request {} > {}", key.local, key.remote);
    }
    let mut bytes = frame.to_vec();
    let parsed = Frame::parse(&mut bytes, &Offload::NONE);
    let what = parsed.ok().and_then(|frame| read_segment(frame.transport_bytes()).map(|segment| describe(&segment)));
    format!("{} {local} > {remote}", what.unwrap_or_else(|| "TCP".to_owned()))
}
