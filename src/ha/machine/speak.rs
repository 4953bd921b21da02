//! What the node says in every round.

use super::Machine;
use crate::ha::hello::{self, Hello, LinkState};
use crate::ha::out::{Advertise, Forwarding, Out};
use crate::ha::score::{self, DeductionKind};
use crate::ha::settings::{LegConfig, LegId};
use crate::time::Instant;

impl Machine {
    /// Fills in what is said in every round.
    pub(super) fn speak(&mut self, out: &mut Out, now: Instant) {
        self.round += 1;
        out.hello = Some(self.hello(now));
        let is_router = self.role_word().forwarding == Forwarding::Router;
        if is_router {
            out.advertise = Some(Advertise { priority: self.priority(), interval: self.pace.promised() });
        }
    }

    pub(super) fn hello(&self, now: Instant) -> Hello {
        let link = |(index, leg): (usize, &LegConfig)| {
            let id = LegId(index as u16);
            LinkState {
                name: hello::digest(&leg.name),
                has_carrier: score::has_carrier(&self.health, id),
                is_alive: !self.deductions.iter().any(|one| one.kind == DeductionKind::Link && one.subject == leg.name),
                is_tracked: leg.track,
                hears: self.legs.hears(id, now),
            }
        };
        Hello {
            role: self.role,
            is_ready: self.health.sync.is_ready,
            is_in_maintenance: self.maintenance.is_some(),
            is_eligible: self.is_eligible(),
            priority: self.priority(),
            base: self.config.my_node().priority,
            successor: self.leaving.as_ref().and_then(|leaving| leaving.successor),
            term: self.term,
            last_active: self.last_active,
            deductions: self.points(),
            interval: self.pace.promised(),
            start: self.started.as_nanos(),
            round: self.round,
            uptime: u32::try_from(now.since(self.started).as_secs()).unwrap_or(u32::MAX),
            sessions: self.health.sync.sessions,
            needed: self.health.sync.needed,
            held: self.health.sync.held,
            digests: self.config.digests,
            name: self.config.my_node().name.clone(),
            program: self.config.program.clone(),
            links: self.config.legs.iter().enumerate().map(link).take(hello::LINKS_MAX).collect(),
        }
    }
}
