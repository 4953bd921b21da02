//! Copies of sessions: gives what other nodes tell to the keeper, and sends what it tells them.

use super::HaThread;
use crate::ha::association::Kind;
use crate::ha::{NodeId, Path};
use crate::runtime::ha_handle::Counted;
use crate::time::Instant;

/// Datagrams that are sent before hellos have their turn.
const SENT_MAX: usize = 128;

impl HaThread {
    /// When the machine or the copies have something to do.
    pub(super) fn poll_timeout(&self) -> Instant {
        let copies = self.keeper.as_ref().map(|keeper| match self.has_unsent {
            true => Instant::ZERO,
            false => keeper.copies.poll_timeout(),
        });
        copies.into_iter().fold(self.machine.poll_timeout(), Instant::min)
    }

    /// Tells the other nodes all sessions again.
    pub(super) fn resync(&mut self) -> Result<(), &'static str> {
        match &mut self.keeper {
            None => {
                Err("this node keeps no copies: `sessions` of [ha] is \"none\", or no other node is of this program")
            }
            Some(keeper) if !keeper.copies.is_router() => {
                Err("this node is not active: what it has of sessions the active node told it, which is to be asked")
            }
            Some(keeper) => {
                keeper.copies.resync();
                Ok(())
            }
        }
    }

    /// Takes what a node said of copies.
    pub(super) fn hear_copies(&mut self, node: NodeId, kind: Kind, body: &[u8], now: Instant) {
        if let Some(keeper) = &mut self.keeper {
            keeper.copies.handle_datagram(node, kind, body, now);
        }
    }

    /// Tells everything that changed until now and sends it: the hello that follows gives the role away.
    pub(super) fn tell_all_copies(&mut self, now: Instant) {
        if let Some(keeper) = &mut self.keeper {
            keeper.tell_all(&self.snapshot, now);
        }
        self.has_unsent = true;
        while self.has_unsent {
            self.send_copies(now);
        }
    }

    /// Does what is due for the copies, and sends what they say.
    pub(super) fn copy_sessions(&mut self) {
        let now = self.shared.clock.now();
        let (Some(keeper), Some(associations)) = (&mut self.keeper, &self.associations) else { return };
        keeper.follow(&self.machine, associations, &self.snapshot, now);
        keeper.run(&self.snapshot, now);
        self.send_copies(now);
    }

    /// Sends what there is to be sent, but not all at once.
    fn send_copies(&mut self, now: Instant) {
        self.has_unsent = false;
        let (Some(keeper), Some(associations)) = (&mut self.keeper, &mut self.associations) else { return };
        let config = self.machine.config();
        let mut sent = 0;
        self.has_unsent = loop {
            let Some(told) = keeper.copies.poll_transmit(now) else { break false };
            let path = self.machine.path_to(told.node, now);
            let Some(datagram) = associations.seal(told.node, told.kind, &told.body) else { continue };
            let is_taken = path == Some(Path::Sync) && self.sync.send(told.node, &datagram) == Some(true);
            let leg = match path {
                _ if is_taken => None,
                Some(Path::Leg(leg)) => config.legs.get(leg.index()),
                // It was heard there a moment ago; what is lost is sent again.
                Some(Path::Sync) | None => None,
            };
            match leg {
                Some(leg) => {
                    let (datagrams, traffic) = ([(told.node, datagram)], &self.shared.socket_counters);
                    self.legs.send_datagrams(leg, config, &datagrams, Counted::CopiesSent, &self.snapshot, traffic);
                }
                None if is_taken => self.counters.count(Counted::CopiesSent),
                None => self.counters.count(Counted::SyncUnsent),
            }
            sent += 1;
            if sent == SENT_MAX {
                break true;
            }
        };
    }
}
