//! Competing claims: what to do if a message gives another MAC address for a neighbour that answers.
//!
//! ARP and neighbour discovery trust every sender, so that a single forged frame could divert a firewall's traffic. A
//! neighbour that has answered therefore moves only if it is silent at its old address. The old address gets three
//! unicast requests in 180 ms, and stays in use until then.
//!
//! A station that took over an address (VRRP without a virtual MAC, a replaced network card) has it afterwards, because
//! the old owner no longer answers; this is before the probes through a firewall have failed often enough to call it
//! down. A spoofer never gets an address whose owner is alive. RFC 4861 section 7.2.5 and Linux (`arp_accept`,
//! `locktime`) have milder forms of this rule.

use super::entry::{EntryOrigin, NeighborState};
use super::{NeighborAction, NeighborKey, NeighborTable};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

/// Time between two requests to the old address.
const CLAIM_INTERVAL: Duration = Duration::from_millis(60);
/// The number of unanswered requests after which the claim is accepted.
const CLAIM_REQUESTS_MAX: u8 = 3;

impl<F> NeighborTable<F> {
    /// Starts to verify the neighbour if `mac` is not the address at which `key` answers. Returns true if the message
    /// needs no further handling.
    pub(super) fn verify_claim(&mut self, key: NeighborKey, mac: MacAddr, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        let answers = match entry.state {
            NeighborState::Reachable | NeighborState::Stale | NeighborState::Probe => entry.answered.is_some(),
            NeighborState::Incomplete | NeighborState::Failed => false,
        };
        if !answers || entry.mac == Some(mac) {
            return false;
        }
        // The latest claim counts, but does not cause more requests to the old address.
        if entry.claim.replace(mac).is_some() {
            return true;
        }
        let due = entry.contested.map_or(now, |last| now.max(last + CLAIM_INTERVAL));
        (entry.state, entry.requests) = (NeighborState::Probe, 0);
        if due <= now {
            self.continue_claim(key, now);
        } else {
            self.set_timer(key, Some(due));
        }
        self.reorder(key);
        true
    }

    /// Sends the next request to the old address, or accepts the claim.
    pub(super) fn continue_claim(&mut self, key: NeighborKey, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.requests < CLAIM_REQUESTS_MAX {
            entry.requests += 1;
            entry.contested = Some(now);
            self.actions.push_back(NeighborAction::Request { key, known: entry.mac });
            self.set_timer(key, Some(now + CLAIM_INTERVAL));
        } else if let (Some(to), Some(from)) = (entry.claim.take(), entry.mac) {
            (entry.mac, entry.state, entry.requests) = (Some(to), NeighborState::Stale, 0);
            self.changed = true;
            if entry.origin == EntryOrigin::Kept {
                self.actions.push_back(NeighborAction::Moved { key, from, to });
            }
            // The neighbour has to answer at the new address.
            self.set_timer(key, Some(now));
        }
    }
}
