//! Sends netlink requests to the kernel and reads its answers (netlink(7)).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr};

/// Bytes of the receive buffer: more than the kernel puts into one datagram of a dump or a notification (32 KiB).
const DATAGRAM_BYTES: usize = 64 * 1024;
/// Bytes of a message header: length, type, flags, sequence, port.
const HEADER_BYTES: usize = 16;

/// A non-blocking socket of one netlink protocol.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    buffer: Vec<u8>,
}

/// One received message: its type and payload.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub kind: u16,
    pub payload: &'a [u8],
}

impl Connection {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// Subscribes to a multicast group.
    pub(super) fn join(&self, group: u32) -> io::Result<()> {
        self.socket.add_membership(group)
    }

    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0).map(|_| ())
    }

    /// Calls `each` with every message of the next datagram; returns false if none waits.
    ///
    /// The error `ENOBUFS` means that messages were lost.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<bool> {
        let received = match self.socket.recv_from(&mut &mut self.buffer[..], 0) {
            Ok((received, _)) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        for message in messages(&self.buffer[..received.min(DATAGRAM_BYTES)]) {
            each(message);
        }
        Ok(true)
    }

    /// Sends messages that ask for acknowledgement, and returns the first error that the kernel reports. Only for
    /// kernel subsystems that answer within the call, so that the answers are there when `send` returns.
    pub(super) fn transact(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes)?;
        let mut outcome = Ok(());
        while self.receive(|message| {
            if let Some(error) = error_of(&message)
                && outcome.is_ok()
            {
                outcome = Err(error);
            }
        })? {}
        outcome
    }

    /// Requests a change by rtnetlink, and returns the error that the kernel reports.
    pub(super) fn change(&mut self, request: RouteNetlinkMessage) -> io::Result<()> {
        self.transact(&in_bytes(request, NLM_F_REQUEST | NLM_F_ACK))
    }

    /// All objects that the kernel lists in answer to `request`.
    pub(super) fn dump(&mut self, request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(&in_bytes(request, NLM_F_REQUEST | NLM_F_DUMP))?;
        let mut found = Vec::new();
        let mut outcome = None;
        // The kernel prepares the next part of a dump when the last is read, so one always waits until the dump is
        // done.
        while outcome.is_none() {
            let more = self.receive(|message| match message.kind {
                DONE => outcome = Some(Ok(())),
                ERROR => outcome = error_of(&message).map(Err),
                kind => found.extend(parse_route(kind, message.payload)),
            })?;
            if !more {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
        outcome.unwrap_or(Ok(())).map(|()| found)
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn in_bytes(request: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// The messages of a datagram, up to the first whose length is invalid.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER_BYTES)?;
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let payload = bytes.get(HEADER_BYTES..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, payload })
    })
}

/// The error in an acknowledgement; `None` if it reports success.
fn error_of(message: &Message<'_>) -> Option<io::Error> {
    let code = i32::from_ne_bytes(*message.payload.first_chunk()?);
    (message.kind == ERROR && code != 0).then(|| io::Error::from_raw_os_error(-code))
}

/// Parses an rtnetlink message; `None` if the parser does not know it.
pub(super) fn parse_route(kind: u16, payload: &[u8]) -> Option<RouteNetlinkMessage> {
    use netlink_packet_core::NetlinkDeserializable;
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    RouteNetlinkMessage::deserialize(&header, payload).ok()
}

#[cfg(test)]
impl Connection {
    /// Shrinks the receive buffer to a few messages.
    pub(super) fn shrink_for_test(&self) {
        self.socket.set_rx_buf_sz(2048u32).expect("any size is taken");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_datagram_is_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER_BYTES);
        }
    }

    #[test]
    fn a_length_of_zero_ends_the_datagram() {
        assert_eq!(messages(&[0; 64]).count(), 0);
    }
}
