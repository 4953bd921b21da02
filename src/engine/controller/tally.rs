//! The controller's counters, by stable names.

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
    /// A packet to the engine that is not valid.
    Malformed => "punt_drop_malformed",
    /// A packet to the engine with a wrong transport checksum.
    Checksum => "punt_drop_checksum",
    /// A fragment to the engine that overlaps another or has no room.
    Fragment => "punt_drop_fragment",
    /// A packet to a multicast group of the engine that it does not answer.
    Group => "punt_drop_group",
    /// A packet to the engine that must not be answered.
    Ignored => "punt_drop_ignored",
    /// A probe through a firewall that is not configured.
    UnknownFirewall => "punt_drop_unknown_firewall",
    /// There was no address of the engine to answer from.
    NoAddress => "punt_drop_no_address",
    /// A frame of the engine's own for a link that is down.
    LinkDown => "engine_drop_link_down",
    /// Frames of the engine's own.
    FramesSent => "engine_frames_sent",
    /// ICMP errors sent.
    ErrorsSent => "icmp_errors_sent",
    /// ICMP errors that the rate limit suppressed.
    ErrorsLimited => "icmp_errors_limited",
    /// ICMP errors that the RFCs forbid to send.
    ErrorsForbidden => "icmp_errors_forbidden",
    /// Resets to closed ports of the engine.
    ResetsSent => "local_resets_sent",
    /// Resets that the rate limit suppressed.
    ResetsLimited => "local_resets_limited",
    /// Pings answered.
    PingsAnswered => "pings_answered",
    /// Probes sent.
    ProbesSent => "probes_sent",
    /// Probes answered.
    ProbesAnswered => "probes_answered",
    /// Missed probes.
    ProbesMissed => "probes_missed",
    /// Probes missed while the engine was late or lost frames.
    ProbesExcused => "probes_excused",
    /// Checks of servers that began.
    ChecksSent => "checks_sent",
    /// Checks that passed.
    ChecksPassed => "checks_passed",
    /// Checks that failed, or that there was no route for.
    ChecksFailed => "checks_failed",
    /// Checks without an answer while the engine was late or lost frames.
    ChecksExcused => "checks_excused",
    /// Servers with failed connections of clients.
    Complaints => "observe_complaints",
    /// Servers that passive checks took out.
    Avoided => "observe_taken_out",
    /// Probes of peers.
    ProbesReceived => "probes_received",
    /// Probes of engines with another seed, or forged.
    ProbesUnauthentic => "probes_unauthentic",
    /// Probes that came after newer ones, or repeatedly.
    ProbesReplayed => "probes_replayed",
    /// Own addresses that other stations claimed.
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
