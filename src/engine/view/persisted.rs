//! Describes what the state directory keeps of servers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::wire::Family;

/// A server whose checks found it up. The state directory keeps it, so that a restarted engine can use the server at
/// once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PersistedServer {
    /// The service and the server: `web/s1`.
    pub server: String,
    /// Address family: `ipv4` or `ipv6`.
    pub family: Family,
    /// The address that was checked. A server with another address or port counts as another server.
    pub address: IpAddr,
    /// The port that was checked.
    pub port: u16,
}
