//! Short HTTP conversations without sockets: the client and the server of a traffic generator, as values. They take
//! segments and the time, and return segments; their owner sends and receives.
//!
//! ```text
//!   client                             server
//!     SYN            ───────────────▶            no state: its sequence number follows from the addresses
//!                    ◀───────────────  SYN ACK
//!     ACK            ───────────────▶
//!     PSH ACK  GET   ───────────────▶
//!                    ◀───────────────  PSH FIN ACK  the whole page
//!     FIN ACK        ───────────────▶
//!                    ◀───────────────  ACK
//! ```
//!
//! These are the fewest segments with which two kernels hold such a conversation, including the bare acknowledgement of
//! the handshake. A device between them may use more: a proxy's kernel sends the page and the FIN separately, which
//! both ends accept.

pub mod client;
pub mod segment;
pub mod server;

/// The request of every client.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: fwlb.example\r\nConnection: close\r\n\r\n";
/// The response of every server.
pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: fwlb\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
                              Connection: close\r\n\r\nfwlb\n";
