//! Live sessions, their sums, and those that ended.

use serde::{Deserialize, Serialize};

use crate::engine::Snapshot;
use crate::path::pinning::Pin;

/// One pin of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PinView {
    /// Group name.
    pub group: String,
    /// Firewall name.
    pub firewall: String,
    /// `hash` or `learned`.
    pub pinned_by: String,
    /// `opening`, `tentative` or `confirmed`.
    pub state: String,
    /// `source` or `destination`: which end it leads to.
    pub toward: String,
}

impl PinView {
    /// A pin that leads to the `toward` (`source` or `destination`) of a flow.
    pub fn new(pin: &Pin, toward: &str, snapshot: &Snapshot) -> Self {
        let firewall = &snapshot.firewalls[pin.firewall.index()];
        Self {
            group: snapshot.groups[firewall.group.index()].name.clone(),
            firewall: firewall.name.clone(),
            pinned_by: pin.pinned_by.name().to_owned(),
            state: pin.state.name().to_owned(),
            toward: toward.to_owned(),
        }
    }
}

/// `show sessions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    /// Engine name.
    pub engine: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `esp`, ... or the number.
    pub protocol: String,
    /// Source of the first packet, with port where there is one.
    pub source: String,
    /// Its destination.
    pub destination: String,
    /// The identifier of an ICMP query, which keeps the pings of two hosts apart.
    pub identifier: Option<u16>,
    /// Firewalls.
    pub pins: Vec<PinView>,
    /// Virtual service.
    pub service: Option<String>,
    /// Real server.
    pub server: Option<String>,
    /// Source after translation.
    pub translated_source: Option<String>,
    /// Destination after translation.
    pub translated_destination: Option<String>,
    /// Mode `tunnel`: the server's address, to which the packets go inside others.
    #[serde(default)]
    pub tunnel: Option<String>,
    /// `opening`, `established`, `closing`, `one-way` or `two-way`.
    pub state: String,
    /// Since it was opened.
    pub age_ms: u64,
    /// Since its last packet.
    pub idle_ms: u64,
    /// Until it is forgotten, if nothing comes.
    pub expires_ms: u64,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes of IP, both directions.
    pub bytes: u64,
    /// Packets of the last half second, as of a second; null unless the question is for rates.
    #[serde(default)]
    pub packets_per_second: Option<u64>,
    /// Bits of IP of the last half second, as of a second; null unless the question is for rates.
    #[serde(default)]
    pub bits_per_second: Option<u64>,
}

/// One line of the session log: a session that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionEndView {
    /// When it ended, RFC 3339 in UTC: for an idle one its timeout after the last packet.
    pub at: String,
    /// Why: `closed`, `reset`, `idle`, `evicted`, `firewall_down`, `server_down`, `drain_timeout`, `maint`, `removed`,
    /// `killed`, `shutdown`.
    pub reason: String,
    /// When its first packet came.
    pub start: String,
    /// From the first packet to the last.
    pub duration_ms: u64,
    /// Engine name.
    pub engine: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `esp`, ... or the number.
    pub protocol: String,
    /// Source of the first packet, with port where there is one.
    pub source: String,
    /// Its destination.
    pub destination: String,
    /// The identifier of an ICMP query.
    pub identifier: Option<u16>,
    /// The firewalls that it went through last.
    pub pins: Vec<PinView>,
    /// Virtual service.
    pub service: Option<String>,
    /// Real server.
    pub server: Option<String>,
    /// Source after translation.
    pub translated_source: Option<String>,
    /// Destination after translation.
    pub translated_destination: Option<String>,
    /// Its last state, as in `show sessions`.
    pub state: String,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes of IP, both directions.
    pub bytes: u64,
}

/// `show sessions --by`: what all sessions of one subject come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TalkerView {
    /// Engine name.
    pub engine: String,
    /// `source`, `destination`, `service`, `server` or `firewall`.
    pub by: String,
    /// The address; `web`, `web/s1`, `perimeter/fw1`.
    pub subject: String,
    /// Live sessions.
    pub sessions: u64,
    /// Packets of these sessions, both directions.
    pub packets: u64,
    /// Bytes of IP of these sessions, both directions.
    pub bytes: u64,
    /// Packets of the last half second, as of a second; null unless the question is for rates.
    pub packets_per_second: Option<u64>,
    /// Bits of IP of the last half second, as of a second; null unless the question is for rates.
    pub bits_per_second: Option<u64>,
}

/// `kill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KillView {
    /// Engine name.
    pub engine: String,
    /// Sessions that ended.
    pub killed: u64,
    /// Resets that were sent to their ends.
    pub resets: u64,
}
