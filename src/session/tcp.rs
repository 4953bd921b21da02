//! The TCP state that decides a session's timeout. It never decides whether a packet passes: the firewall does security.

/// Coarse connection state, as seen from the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// A SYN was seen, the handshake is not complete.
    Opening,
    /// Both sides have spoken beyond the handshake, or the flow was picked up in mid-stream in both directions.
    Established,
    /// FIN was seen both ways, or RST.
    Closing,
}
