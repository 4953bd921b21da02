//! Limits the share of the engine that one source address may use.

use std::net::IpAddr;

use super::Forwarder;
use super::flows::PacketContext;
use crate::engine::DropReason;
use crate::path::pinning::PacketKind;
use crate::session::OverLimit;

impl Forwarder {
    /// Whether the source of a packet that begins a flow may have another session by `source-sessions` and
    /// `source-rate`. A TCP connection in mid-stream is always admitted, because many appear at once after a restart.
    pub(super) fn check_source_limits(&self, known: &PacketContext<'_>) -> Result<(), DropReason> {
        let PacketContext { packet, snapshot, now, .. } = *known;
        let limits = &snapshot.source_limits;
        let begins = packet.tcp.is_none() || packet.kind() == PacketKind::Syn;
        if !begins || limits.sessions.is_none() && limits.rate.is_none() {
            return Ok(());
        }
        let (source, table) = (packet.flow.source.address, self.sessions.table());
        table.sources().admit(source, limits, table.len(), now).map_err(|why| self.refuse(source, why))
    }

    /// The drop reason for a packet whose source exceeds a limit. The source is remembered for the alarm.
    #[cold]
    pub(super) fn refuse(&self, source: IpAddr, why: OverLimit) -> DropReason {
        let table = self.sessions.table();
        table.sources().refused(source, why, table.len());
        reason(why)
    }
}

/// The drop reason under which an exceeded limit is counted.
pub(crate) const fn reason(why: OverLimit) -> DropReason {
    match why {
        OverLimit::Share => DropReason::SourceShare,
        OverLimit::Sessions => DropReason::SourceSessions,
        OverLimit::Rate => DropReason::SourceRate,
    }
}
