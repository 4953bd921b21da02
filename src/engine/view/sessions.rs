//! Live sessions, sums of them, and ended sessions.

use serde::{Deserialize, Serialize};

use super::{FlowEnd, SessionState};
use crate::engine::Snapshot;
use crate::named_enum::EnumOrUnknown;
use crate::path::pinning::{Pin, PinState, PinnedBy};

/// A pin: the firewall that a session's packets go through on the way to one end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PinView {
    /// Name of the group.
    pub group: String,
    /// Name of the firewall.
    pub firewall: String,
    /// How it was chosen: `hash` or `learned`.
    #[schema(value_type = PinnedBy)]
    pub pinned_by: EnumOrUnknown<PinnedBy>,
    /// State of the pin: `opening`, `tentative` or `confirmed`.
    #[schema(value_type = PinState)]
    pub state: EnumOrUnknown<PinState>,
    /// The end of the flow that packets through this firewall go to: `source` or `destination`.
    #[schema(value_type = FlowEnd)]
    pub toward: EnumOrUnknown<FlowEnd>,
}

impl PinView {
    /// Shows a pin on the way to the end `toward` of a flow.
    pub fn new(pin: &Pin, toward: FlowEnd, snapshot: &Snapshot) -> Self {
        let firewall = &snapshot.firewalls[pin.firewall.index()];
        Self {
            group: snapshot.groups[firewall.group.index()].name.clone(),
            firewall: firewall.name.clone(),
            pinned_by: pin.pinned_by.into(),
            state: pin.state.into(),
            toward: toward.into(),
        }
    }
}

/// `show sessions`: a live session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    /// Name of the engine.
    pub engine: String,
    /// Protocol: `tcp`, `udp`, `icmp`, `icmpv6`, `esp`, ... or its number.
    pub protocol: String,
    /// Source of the first packet, with a port if the protocol has ports.
    pub source: String,
    /// Destination of the first packet, with a port if the protocol has ports.
    pub destination: String,
    /// Identifier of an ICMP echo, which distinguishes the pings of one host.
    pub identifier: Option<u16>,
    /// The firewalls that it goes through.
    pub pins: Vec<PinView>,
    /// Name of its virtual service.
    pub service: Option<String>,
    /// Name of its real server.
    pub server: Option<String>,
    /// Source after translation.
    pub translated_source: Option<String>,
    /// Destination after translation.
    pub translated_destination: Option<String>,
    /// With mode `tunnel`: the server's address, which is the destination of the outer packets.
    #[serde(default)]
    pub tunnel: Option<String>,
    /// Its state: `opening`, `established`, `closing`, `one-way` or `two-way`.
    #[schema(value_type = SessionState)]
    pub state: EnumOrUnknown<SessionState>,
    /// Time since it was opened, in milliseconds.
    pub age_ms: u64,
    /// Time since its last packet, in milliseconds.
    pub idle_ms: u64,
    /// Time until it ends if no packet comes, in milliseconds.
    pub expires_ms: u64,
    /// Packets in both directions.
    pub packets: u64,
    /// Bytes of IP packets in both directions.
    pub bytes: u64,
    /// Packets per second, measured over the last half second; null unless rates were asked for.
    #[serde(default)]
    pub packets_per_second: Option<u64>,
    /// Bits of IP packets per second, measured over the last half second; null unless rates were asked for.
    #[serde(default)]
    pub bits_per_second: Option<u64>,
}

/// A line of the session log: a session that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionEndView {
    /// When it ended, RFC 3339 in UTC. An idle session ends its idle time after the last packet.
    pub at: String,
    /// Why it ended: `closed`, `reset`, `idle`, `evicted`, `firewall_down`, `server_down`, `drain_timeout`, `maint`,
    /// `removed`, `killed`, `shutdown`.
    pub reason: String,
    /// When its first packet arrived, RFC 3339 in UTC.
    pub start: String,
    /// Time from the first packet to the last, in milliseconds.
    pub duration_ms: u64,
    /// Name of the engine.
    pub engine: String,
    /// Protocol: `tcp`, `udp`, `icmp`, `icmpv6`, `esp`, ... or its number.
    pub protocol: String,
    /// Source of the first packet, with a port if the protocol has ports.
    pub source: String,
    /// Destination of the first packet, with a port if the protocol has ports.
    pub destination: String,
    /// Identifier of an ICMP echo.
    pub identifier: Option<u16>,
    /// The firewalls that it went through last.
    pub pins: Vec<PinView>,
    /// Name of its virtual service.
    pub service: Option<String>,
    /// Name of its real server.
    pub server: Option<String>,
    /// Source after translation.
    pub translated_source: Option<String>,
    /// Destination after translation.
    pub translated_destination: Option<String>,
    /// Its last state, as in `show sessions`.
    pub state: EnumOrUnknown<SessionState>,
    /// Packets in both directions.
    pub packets: u64,
    /// Bytes of IP packets in both directions.
    pub bytes: u64,
}

/// `show sessions --by`: the sum of all sessions with the same source, destination, service, server or firewall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TalkerView {
    /// Name of the engine.
    pub engine: String,
    /// What the sessions have in common: `source`, `destination`, `service`, `server` or `firewall`.
    pub by: String,
    /// Its value: an address, `web`, `web/s1`, `perimeter/fw1`.
    pub subject: String,
    /// Number of live sessions.
    pub sessions: u64,
    /// Packets of these sessions in both directions.
    pub packets: u64,
    /// Bytes of IP packets of these sessions in both directions.
    pub bytes: u64,
    /// Packets per second, measured over the last half second; null unless rates were asked for.
    pub packets_per_second: Option<u64>,
    /// Bits of IP packets per second, measured over the last half second; null unless rates were asked for.
    pub bits_per_second: Option<u64>,
}

/// `kill`: the sessions that an operator ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KillView {
    /// Name of the engine.
    pub engine: String,
    /// Number of sessions that were ended.
    pub killed: u64,
    /// Number of TCP resets that were sent to their ends.
    pub resets: u64,
}
