//! What the controller counts, by names that stay.

macro_rules! tallies {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Something that the controller counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Tally {
            $($(#[$doc])* $variant,)*
        }

        impl Tally {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

tallies! {
    /// ARP that is malformed or forged.
    InvalidArp => "punt_drop_arp",
    /// Neighbour discovery that is malformed or forged.
    InvalidNdp => "punt_drop_nd",
    /// A neighbour that lies in no subnet of the link.
    OffLink => "punt_drop_off_link",
    /// To the engine, and not a legal packet.
    Malformed => "punt_drop_malformed",
    /// To the engine, with a wrong transport checksum.
    Checksum => "punt_drop_checksum",
    /// To the engine, a fragment that overlaps another or has no room.
    Fragment => "punt_drop_fragment",
    /// To a group that the engine is in, and nothing that it answers.
    Group => "punt_drop_group",
    /// To the engine, and not to be answered.
    Ignored => "punt_drop_ignored",
    /// A probe through a firewall that is not configured.
    UnknownFirewall => "punt_drop_unknown_firewall",
    /// No address of the engine to answer from.
    NoAddress => "punt_drop_no_address",
    /// A frame of the engine's own for a link that is down.
    LinkDown => "engine_drop_link_down",
    /// Frames of the engine's own.
    FramesSent => "engine_frames_sent",
    /// ICMP errors sent.
    ErrorsSent => "icmp_errors_sent",
    /// ICMP errors that the rate limit held back.
    ErrorsLimited => "icmp_errors_limited",
    /// ICMP errors that no RFC allows to send.
    ErrorsForbidden => "icmp_errors_forbidden",
    /// Resets to closed ports of the engine.
    ResetsSent => "local_resets_sent",
    /// Resets that the rate limit held back.
    ResetsLimited => "local_resets_limited",
    /// Pings answered.
    PingsAnswered => "pings_answered",
    /// Probes sent.
    ProbesSent => "probes_sent",
    /// Probes answered.
    ProbesAnswered => "probes_answered",
    /// Probes missed.
    ProbesMissed => "probes_missed",
    /// Probes missed while the engine was not punctual.
    ProbesExcused => "probes_excused",
    /// Checks of servers begun.
    ChecksSent => "checks_sent",
    /// Checks that the server answered well.
    ChecksPassed => "checks_passed",
    /// Checks that the server failed, or that there was no way for.
    ChecksFailed => "checks_failed",
    /// Checks without an answer while the engine was not punctual.
    ChecksExcused => "checks_excused",
    /// Servers that connections of clients spoke against.
    Complaints => "observe_complaints",
    /// Servers taken out for that.
    Avoided => "observe_taken_out",
    /// Probes of peers.
    ProbesReceived => "probes_received",
    /// Probes of engines with another seed, or forged.
    ProbesUnauthentic => "probes_unauthentic",
    /// Probes that came after newer ones, or again.
    ProbesReplayed => "probes_replayed",
    /// Own addresses that others claimed.
    Conflicts => "duplicate_address",
}

/// One number for each [`Tally`].
#[derive(Debug, Clone, Default)]
pub(super) struct Tallies([u64; Tally::ALL.len()]);

impl Tallies {
    pub(super) fn add(&mut self, tally: Tally) {
        self.0[tally as usize] += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Tally::ALL.iter().map(|tally| (tally.name(), self.0[*tally as usize]))
    }
}
