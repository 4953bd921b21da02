//! Short HTTP conversations without sockets: the client and the server of a traffic generator, as values. Segments and time go
//! in, segments come out; who owns them sends and receives.
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
//! These are the fewest segments with which two kernels have such a conversation, the bare acknowledgement of the handshake
//! included. What is between them may use more: a proxy's kernel sends page and FIN apart, and both ends take that as it comes.

pub mod client;
pub mod segment;
pub mod server;

/// What every client says.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: fwlb.example\r\nConnection: close\r\n\r\n";
/// What every server answers.
pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: fwlb\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
                              Connection: close\r\n\r\nfwlb\n";
