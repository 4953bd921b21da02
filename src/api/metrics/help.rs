//! Help texts of the counters of `fwlb show counters`.

use crate::engine::DropReason;

/// One sentence about a counter. For a counter without one, it says where the name is from.
pub fn of_counter(name: &str) -> String {
    known(name).map_or_else(|| format!("The counter {name} of `fwlb show counters`."), str::to_owned)
}

/// The sentence about a counter, if there is one.
pub fn known(name: &str) -> Option<&'static str> {
    let reason = || DropReason::ALL.iter().find(|reason| reason.name() == name).map(|reason| reason.help());
    HELP.iter().find(|(counter, _)| *counter == name).map(|(_, help)| *help).or_else(reason)
}

/// Whether a value of `show counters` can shrink. The number of neighbours is in `fwlb_table_entries`.
pub(super) fn can_shrink(name: &str) -> bool {
    name == "neighbors"
}

const HELP: [(&str, &str); 103] = [
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
    (
        "copies_ended",
        "Sessions of a standby ended: the active engine ended them or does not have them, or they were idle.",
    ),
    ("copies_opened", "Sessions that another engine of the cluster opened and told of."),
    ("dropped", "Frames dropped, all reasons."),
    ("duplicate_address", "Frames of others that claim an address of the engine."),
    ("engine_drop_link_down", "Frames of the engine's own for a link that is down."),
    ("engine_frames_sent", "Frames of the engine's own."),
    ("event_log_dropped", "Administrative events that are not on disk."),
    ("event_log_written", "Administrative events on disk."),
    ("forwarded", "Frames that left by another link than they came by."),
    ("fragments_released", "Fragments that were held until their first came, and sent."),
    ("ha_advert_invalid", "VRRP advertisements that are not valid."),
    ("ha_advert_node", "VRRP advertisements of other nodes, which are judged by their hellos."),
    ("ha_advert_other_addresses", "VRRP advertisements of other nodes that list other addresses."),
    ("ha_advert_other_vrid", "VRRP advertisements of other virtual routers."),
    ("ha_advert_own", "VRRP advertisements of the engine's own that came back."),
    ("ha_advert_router", "VRRP advertisements of other nodes, which are judged by them."),
    ("ha_advert_sent", "VRRP advertisements sent."),
    ("ha_advert_stranger", "VRRP advertisements of stations outside the cluster with its VRID."),
    ("ha_copies_received", "Datagrams about copies of sessions that another node sent."),
    ("ha_copies_sent", "Datagrams about copies of sessions sent."),
    ("ha_hello_invalid", "Hellos of other nodes whose content has no meaning."),
    ("ha_hello_received", "Hellos of other nodes."),
    ("ha_hello_sent", "Hellos sent, and beginnings of associations."),
    ("ha_ring_full", "Frames of other nodes that the thread of the role machine had no room for."),
    ("ha_sync_unsent", "Datagrams that the path for synchronisation did not take."),
    ("ha_unopened_association", "Datagrams of another association."),
    ("ha_unopened_foreign", "Datagrams to the port of hellos that are none of a cluster."),
    ("ha_unopened_format", "Datagrams of a format that this version does not read."),
    ("ha_unopened_key", "Datagrams that were sealed with another key."),
    ("ha_unopened_replay", "Datagrams that were seen before."),
    ("ha_unopened_seal", "Datagrams that were damaged or forged."),
    ("ha_unopened_sender", "Datagrams that are from no other node."),
    ("hairpinned", "Frames that left by the link they came by."),
    ("icmp_errors_forbidden", "ICMP errors that no RFC allows to send."),
    ("icmp_errors_limited", "ICMP errors that the rate limit held back."),
    ("icmp_errors_sent", "ICMP errors sent."),
    ("local_resets_limited", "Resets to closed ports of the engine that the rate limit held back."),
    ("local_resets_sent", "Resets to closed ports of the engine."),
    ("log_dropped", "Log lines that found the queue full."),
    ("neighbor_claims_refused", "Claims of another hardware address for a neighbour that answers at its own."),
    ("neighbor_table_full", "Neighbours that were forgotten for others."),
    ("neighbors", "Neighbours that are known."),
    ("observe_complaints", "Times that failed connections of clients had a server checked at once."),
    ("observe_taken_out", "Times that failed connections of clients took a server out."),
    ("pin_corrected", "Pins that nothing had confirmed and that took the firewall that answered."),
    ("pin_followed", "Confirmed pins that followed the engine on the far side."),
    ("pin_hashed", "New flows that took a firewall by hash."),
    ("pin_learned", "New flows that arrived from a firewall."),
    ("pin_reselected", "Pins whose firewall failed."),
    ("pin_rotated", "TCP pins without an answer that tried the next firewall."),
    ("pings_answered", "Pings to the engine that it answered."),
    ("probes_answered", "Probes through firewalls that were answered in time."),
    ("probes_excused", "Probes that were missed while the engine itself was late."),
    ("probes_missed", "Probes through firewalls that were not answered in time."),
    ("probes_received", "Probes of peers that came through firewalls."),
    ("probes_replayed", "Probes of peers that came again, or late."),
    ("probes_sent", "Probes through firewalls."),
    ("probes_unauthentic", "Probes that nobody with the seed has made."),
    ("punt_drop_arp", "ARP that is malformed or forged."),
    ("punt_drop_checksum", "To the engine, with a wrong transport checksum."),
    ("punt_drop_fragment", "To the engine, a fragment that overlaps another or has no room."),
    ("punt_drop_fragment_timeout", "Fragments whose first did not come in time."),
    ("punt_drop_fragment_unsent", "Fragments that were held and found no room in a queue when their first came."),
    ("punt_drop_group", "To a multicast group that the engine is in, and nothing that it answers."),
    ("punt_drop_icmp_error", "ICMP errors that were not made, as the queue to the controller was full."),
    ("punt_drop_ignored", "To the engine, and not to be answered."),
    ("punt_drop_malformed", "To the engine, and not a legal packet."),
    ("punt_drop_nd", "Neighbour discovery that is malformed or forged."),
    ("punt_drop_neighbor_failed", "Frames whose next hop did not answer ARP or ND."),
    ("punt_drop_neighbor_limited", "Frames of a source that asks for too many neighbours."),
    ("punt_drop_neighbor_queue", "Frames that found no room to wait for their next hop."),
    ("punt_drop_no_address", "Without an address of the engine to answer from."),
    ("punt_drop_off_link", "About a neighbour that lies in no subnet of the link."),
    ("punt_drop_unknown_firewall", "Probes through a firewall that is not configured."),
    ("punted", "Frames handed to the controller."),
    ("received", "Frames taken from the rings."),
    ("resets_sent", "Resets sent to the ends of sessions that failed or were killed."),
    ("ring_dropped", "Frames that a ring had no room for."),
    ("routed_bytes", "Bytes of IP of sessions that no service owns."),
    ("routed_packets", "Packets of sessions that no service owns."),
    ("session_log_dropped", "Ended sessions that the session log had no room for."),
    ("session_log_failed", "Ended sessions that could not be written to the session log."),
    ("session_log_written", "Ended sessions in the session log."),
    ("sessions_created", "Sessions opened."),
    ("sessions_evicted", "Sessions that made room for others: half-open, or idle for longest and worth least."),
    ("sessions_expired", "Sessions forgotten for idleness."),
    ("sessions_failed", "Sessions ended because their firewall or server failed."),
    ("sessions_killed", "Sessions ended by an operator."),
    ("table_full", "Flows that found no room in the session table and went by hash."),
    ("tx_link_down", "Frames for a device that is down."),
    ("tx_no_buffers", "Frames that the queue of a device had no room for."),
    ("tx_no_device", "Frames for a device that is gone."),
    ("tx_not_active", "Frames of the virtual router that were made before the node's lease ended, and not sent."),
    ("tx_refused", "Frames that the kernel refused to send."),
    ("tx_too_big", "Frames larger than a device carries."),
    ("tx_would_block", "Frames that a socket had no room for."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Counters;

    #[test]
    fn every_counter_of_the_workers_has_a_sentence() {
        for (name, _) in Counters::default().named() {
            let help = known(name).unwrap_or_else(|| panic!("{name} has no words"));
            assert!(help.ends_with('.') && !help.starts_with(' '), "{name}: {help:?}");
        }
        assert_eq!(of_counter("drop_ttl_expired"), "The TTL or hop limit ran out.");
        assert_eq!(of_counter("of_a_later_version"), "The counter of_a_later_version of `fwlb show counters`.");
        assert!(HELP.is_sorted(), "a word is found where it is looked for");
    }
}
