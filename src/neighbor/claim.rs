//! When a neighbour that answers is said to be at another hardware address.
//!
//! ARP and neighbour discovery believe whoever speaks; a frame is all that a spoofer needs to take a firewall's traffic. So a
//! neighbour that has answered moves only when it is silent where it was: the old address is asked, by unicast, three times in
//! 180 ms, and is used until then. Who took over an address (VRRP without a virtual MAC, a card that was changed) has it then,
//! since the old owner does not answer for it any more, and before the probes through a firewall have failed often enough to
//! call it down; a spoofer never has it while the owner lives. RFC 4861 section 7.2.5 and Linux (`arp_accept`, `locktime`) have
//! milder forms of this.

use super::entry::{Origin, State};
use super::{Action, Key, NeighborTable};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

/// Time between two questions to the old address.
const INTERVAL: Duration = Duration::from_millis(60);
/// Questions that stay unanswered until the claim is believed.
const QUESTIONS: u8 = 3;

impl<F> NeighborTable<F> {
    /// Looks into it if `mac` is not where `key` answers; true if nothing else is to be done about what was heard.
    pub(super) fn contest(&mut self, key: Key, mac: MacAddr, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        let answers = match entry.state {
            State::Reachable | State::Stale | State::Probe => entry.answered.is_some(),
            State::Incomplete | State::Failed => false,
        };
        if !answers || entry.mac == Some(mac) {
            return false;
        }
        // The latest claim counts; the old address is not asked more often for that.
        if entry.claim.replace(mac).is_some() {
            return true;
        }
        let due = entry.contested.map_or(now, |last| now.max(last + INTERVAL));
        (entry.state, entry.asked) = (State::Probe, 0);
        if due <= now {
            self.ask_claimed(key, now);
        } else {
            self.set_timer(key, Some(due));
        }
        self.file(key);
        true
    }

    /// Asks at the old address once more, or takes the new one.
    pub(super) fn ask_claimed(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.asked < QUESTIONS {
            entry.asked += 1;
            entry.contested = Some(now);
            self.actions.push_back(Action::Ask { key, known: entry.mac });
            self.set_timer(key, Some(now + INTERVAL));
        } else if let (Some(to), Some(from)) = (entry.claim.take(), entry.mac) {
            (entry.mac, entry.state, entry.asked) = (Some(to), State::Stale, 0);
            self.changed = true;
            if entry.origin == Origin::Kept {
                self.actions.push_back(Action::Moved { key, from, to });
            }
            // It has to answer there.
            self.set_timer(key, Some(now));
        }
    }
}
