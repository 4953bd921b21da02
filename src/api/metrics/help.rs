//! Help texts of the counters of `fwlb show counters`.

/// One sentence about a counter; for an unknown one, where its name comes from.
pub(super) fn of_counter(name: &str) -> String {
    let known = HELP.iter().find(|(counter, _)| *counter == name).map(|(_, help)| (*help).to_owned());
    known.unwrap_or_else(|| format!("The counter {name} of `fwlb show counters`."))
}

/// Whether a value of `show counters` can shrink. The number of neighbours is in `fwlb_table_entries`.
pub(super) fn can_shrink(name: &str) -> bool {
    name == "neighbors"
}

const HELP: [(&str, &str); 55] = [
    ("asymmetric", "Session packets that came from another firewall than their pin."),
    ("balanced_bytes", "Bytes of IP of sessions of services."),
    ("balanced_packets", "Packets of sessions of services."),
    (
        "checks_excused",
        "Health checks of servers that were not answered while the engine itself was late or lost frames.",
    ),
    ("checks_failed", "Health checks of servers that failed."),
    ("checks_passed", "Health checks of servers that passed."),
    ("checks_sent", "Health checks of servers that were begun."),
    ("dropped", "Frames dropped, all reasons."),
    ("duplicate_address", "Frames of others that claim an address of the engine."),
    ("engine_drop_link_down", "Frames of the engine's own for a link that is down."),
    ("engine_frames_sent", "Frames of the engine's own."),
    ("event_log_dropped", "Administrative events that are not on disk."),
    ("event_log_written", "Administrative events on disk."),
    ("forwarded", "Frames that left by another link than they came by."),
    ("fragments_released", "Fragments that were held until their first came, and sent."),
    ("hairpinned", "Frames that left by the link they came by."),
    ("icmp_errors_forbidden", "ICMP errors that no RFC allows to send."),
    ("icmp_errors_limited", "ICMP errors that the rate limit held back."),
    ("icmp_errors_sent", "ICMP errors sent."),
    ("local_resets_limited", "Resets to closed ports of the engine that the rate limit held back."),
    ("local_resets_sent", "Resets to closed ports of the engine."),
    ("log_dropped", "Log lines that found the queue full."),
    ("neighbor_claims_refused", "Claims of another hardware address for a neighbour that answers at its own."),
    ("neighbor_table_full", "Neighbours that were forgotten for others."),
    ("observe_complaints", "Times that failed connections of clients had a server checked at once."),
    ("observe_taken_out", "Times that failed connections of clients took a server out."),
    ("pings_answered", "Pings to the engine that it answered."),
    ("probes_answered", "Probes through firewalls that were answered in time."),
    ("probes_excused", "Probes that were missed while the engine itself was late."),
    ("probes_missed", "Probes through firewalls that were not answered in time."),
    ("probes_received", "Probes of peers that came through firewalls."),
    ("probes_replayed", "Probes of peers that came again, or late."),
    ("probes_sent", "Probes through firewalls."),
    ("probes_unauthentic", "Probes that nobody with the seed has made."),
    ("punted", "Frames handed to the controller."),
    ("received", "Frames taken from the rings."),
    ("resets_sent", "Resets sent to the ends of sessions that failed or were killed."),
    ("ring_dropped", "Frames that a ring had no room for."),
    ("routed_bytes", "Bytes of IP of sessions that no service owns."),
    ("routed_packets", "Packets of sessions that no service owns."),
    ("sessions_created", "Sessions opened."),
    ("sessions_evicted", "Sessions that made room for others: half-open, or idle for longest and worth least."),
    ("sessions_expired", "Sessions forgotten for idleness."),
    ("sessions_failed", "Sessions ended because their firewall or server failed."),
    ("sessions_killed", "Sessions ended by an operator."),
    ("session_log_dropped", "Ended sessions that the session log had no room for."),
    ("session_log_failed", "Ended sessions that could not be written to the session log."),
    ("session_log_written", "Ended sessions in the session log."),
    ("table_full", "Flows that found no room in the session table and went by hash."),
    ("tx_link_down", "Frames for a device that is down."),
    ("tx_no_buffers", "Frames that the queue of a device had no room for."),
    ("tx_no_device", "Frames for a device that is gone."),
    ("tx_refused", "Frames that the kernel refused to send."),
    ("tx_too_big", "Frames larger than a device carries."),
    ("tx_would_block", "Frames that a socket had no room for."),
];
