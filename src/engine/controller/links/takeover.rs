//! What a change of role means on the links: whether this node answers for the floating and virtual addresses, how it
//! announces them after a takeover, and how it asks neighbours whether they hear it.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::super::outbox::Outbox;
use super::Links;
use crate::id::LinkId;
use crate::time::{Duration, Instant};
use crate::wire::mld::ReportReason;

/// The number of virtual addresses that are announced at once.
const ANNOUNCED_AT_ONCE: usize = 64;
/// The time between two such numbers.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(1);
/// The number of neighbours of a link that are asked at once.
const ASKED_AT_ONCE: usize = 8;

/// The announcements that are left of a takeover, and who is asked next.
#[derive(Debug, Clone, Default)]
pub(super) struct Takeover {
    left: VecDeque<(LinkId, IpAddr)>,
    next: Option<Instant>,
    /// The number of neighbours that were asked on each link.
    asked: usize,
}

impl Takeover {
    /// When the next announcements are due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

impl Links {
    /// Sets whether this node answers for floating and virtual addresses.
    pub(in super::super) fn set_router(&mut self, is_router: bool) {
        if self.is_router == is_router {
            return;
        }
        self.is_router = is_router;
        self.states.iter_mut().for_each(|state| state.set_router(is_router));
        if !is_router {
            self.takeover = Takeover::default();
        }
    }

    /// Whether this node answers for floating and virtual addresses.
    pub(in super::super) fn is_router(&self) -> bool {
        self.is_router
    }

    /// Announces the floating addresses of every link at once, and the virtual ones soon.
    pub(in super::super) fn announce_floating(&mut self, now: Instant, out: &mut Outbox) {
        if !self.is_router {
            return;
        }
        self.takeover.left.clear();
        for index in 0..self.states.len() {
            let (link, state) = (LinkId::from(index), &self.states[index]);
            if !state.up {
                continue;
            }
            let virtual_addresses: Vec<IpAddr> = state.shared_addresses().skip(state.floating.len()).collect();
            self.takeover.left.extend(virtual_addresses.into_iter().map(|address| (link, address)));
            for address in state.floating.clone() {
                self.announce_address(link, address, out);
            }
            self.report_groups(link, ReportReason::Joined, out);
        }
        self.takeover.next = Some(now);
        self.announce_more(now, out);
    }

    /// Announces the next virtual addresses, where that is due.
    pub(super) fn announce_more(&mut self, now: Instant, out: &mut Outbox) {
        if self.takeover.next.is_none_or(|next| next > now) {
            return;
        }
        for _ in 0..ANNOUNCED_AT_ONCE {
            let Some((link, address)) = self.takeover.left.pop_front() else { break };
            self.announce_address(link, address, out);
        }
        self.takeover.next = (!self.takeover.left.is_empty()).then(|| now + ANNOUNCE_PAUSE);
    }

    /// Asks some firewalls, gateways and servers of every link for their MAC addresses; others are asked next time.
    pub(in super::super) fn ask_neighbors(&mut self) {
        let mut from = 0;
        while let Some((link, _)) = self.configured_neighbors.get(from).copied() {
            let count = self.configured_neighbors[from..].iter().take_while(|(other, _)| *other == link).count();
            for number in 0..count.min(ASKED_AT_ONCE) {
                let key = self.configured_neighbors[from + (self.takeover.asked + number) % count];
                self.neighbors.request(key, true);
            }
            from += count;
        }
        self.takeover.asked = self.takeover.asked.wrapping_add(ASKED_AT_ONCE);
    }
}
