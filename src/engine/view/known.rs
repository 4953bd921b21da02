//! What is kept of servers over a restart.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A server that its checks found up, as the state directory keeps it over a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KnownServer {
    /// `web/s1`.
    pub server: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Where it was asked: at another address or port it is another server.
    pub address: IpAddr,
    /// The port that was asked.
    pub port: u16,
}
