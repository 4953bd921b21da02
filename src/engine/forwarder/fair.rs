//! How much of the engine one source may have, so that the others get in too.

use std::net::IpAddr;

use super::Forwarder;
use super::flows::Known;
use crate::engine::DropReason;
use crate::path::pinning::PacketKind;
use crate::session::OverLimit;

impl Forwarder {
    /// Whether the source of a packet that begins a flow may have another session, by the limits of the configuration. A TCP
    /// connection that goes on is always taken up, as after a restart many do at once.
    pub(super) fn admit_source(&self, known: &Known<'_>) -> Result<(), DropReason> {
        let Known { claim, snapshot, now, .. } = *known;
        let limits = &snapshot.source_limits;
        let begins = claim.tcp.is_none() || claim.kind() == PacketKind::Syn;
        if !begins || limits.sessions.is_none() && limits.rate.is_none() {
            return Ok(());
        }
        let (source, table) = (claim.flow.source.address, self.sessions.table());
        table.sources().admit(source, limits, table.len(), now).map_err(|why| self.refuse(source, why))
    }

    /// Why a packet is dropped whose source has too much; remembers who that was.
    #[cold]
    pub(super) fn refuse(&self, source: IpAddr, why: OverLimit) -> DropReason {
        let table = self.sessions.table();
        table.sources().refused(source, why, table.len());
        reason(why)
    }
}

/// How it is counted.
pub(crate) const fn reason(why: OverLimit) -> DropReason {
    match why {
        OverLimit::Share => DropReason::SourceShare,
        OverLimit::Sessions => DropReason::SourceSessions,
        OverLimit::Rate => DropReason::SourceRate,
    }
}
