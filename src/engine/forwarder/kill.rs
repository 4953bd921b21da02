//! Sessions that an operator ends: each worker goes through its part of the table in bounded steps, between batches.
//!
//! Sessions that are opened after the order was given are not meant: what is killed may come again. Where both ends of a TCP
//! connection are to be told, each engine tells those that it tells when `on-failure` is `reset`: of a session that one of its
//! services placed both ends, the client through the firewall that it came by; of any other the ends on its near side, never
//! one through a firewall.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::engine::forwarder::Forwarder;
use crate::engine::{Selection, Snapshot};
use crate::session::{Class, EndReason, Removed, Sweep};
use crate::time::Instant;

/// Which sessions are to end, and how far that is; one for all workers of an engine.
#[derive(Debug)]
pub struct KillOrder {
    selection: Selection,
    reset: bool,
    killed: AtomicU64,
    resets: AtomicU64,
    /// Workers that are not through their part.
    left: AtomicUsize,
}

/// The orders that a worker works on.
#[derive(Debug, Default)]
pub(super) struct Kills {
    orders: Vec<Working>,
    /// What one step found: kept to be used again.
    ended: Vec<Removed>,
}

#[derive(Debug)]
struct Working {
    order: Arc<KillOrder>,
    /// Where it is in this worker's slots.
    cursor: usize,
}

impl KillOrder {
    /// Ends the sessions of `selection` that were opened up to `now`; with `reset`, ends of TCP connections are told.
    /// `workers` are to be given it.
    pub fn new(selection: Selection, reset: bool, workers: usize, now: Instant) -> Self {
        let selection = Selection { opened_until: Some(now), ..selection };
        Self { selection, reset, killed: AtomicU64::new(0), resets: AtomicU64::new(0), left: AtomicUsize::new(workers) }
    }

    /// Sessions that have ended, and resets that were sent.
    pub fn counts(&self) -> (u64, u64) {
        (self.killed.load(Ordering::Relaxed), self.resets.load(Ordering::Relaxed))
    }

    /// True once every worker is through.
    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }
}

impl Forwarder {
    /// From here on works on this order too.
    pub fn kill(&mut self, order: Arc<KillOrder>) {
        self.kills.orders.push(Working { order, cursor: 0 });
    }

    /// Goes through at most `budget` slots for each order. True if there is more to look at.
    pub(super) fn work_on_kills(&mut self, snapshot: &Snapshot, now: Instant, budget: usize) -> bool {
        if self.kills.orders.is_empty() {
            return false;
        }
        let mut orders = std::mem::take(&mut self.kills.orders);
        orders.retain_mut(|working| !self.work_on(working, snapshot, now, budget));
        self.kills.orders = orders;
        !self.kills.orders.is_empty()
    }

    /// True if that was the end of this worker's part.
    fn work_on(&mut self, working: &mut Working, snapshot: &Snapshot, now: Instant, budget: usize) -> bool {
        let Working { order, cursor } = working;
        // Each session may need a reset to both ends, and each reset a place in the queue.
        let budget = if order.reset { budget.min(self.transmits_free() / 2) } else { budget };
        let mut ended = std::mem::take(&mut self.kills.ended);
        let selection = &order.selection;
        let is_done = self.sessions.sweep(
            cursor,
            budget,
            |key, session, bound| if selection.matches(key, session, bound) { Sweep::Remove } else { Sweep::Keep },
            |removed| ended.push(removed),
        );
        let resets = self.counters.resets_sent;
        order.killed.fetch_add(ended.len() as u64, Ordering::Relaxed);
        for removed in ended.drain(..) {
            self.settle(&removed, EndReason::Killed, snapshot, now);
            if order.reset && removed.session.class == Class::Tcp {
                self.reset_killed(&removed, snapshot);
            }
        }
        order.resets.fetch_add(self.counters.resets_sent - resets, Ordering::Relaxed);
        self.kills.ended = ended;
        if is_done {
            order.left.fetch_sub(1, Ordering::Release);
        }
        is_done
    }

    /// Tells the ends that are this engine's to tell.
    fn reset_killed(&mut self, ended: &Removed, snapshot: &Snapshot) {
        if ended.bound.is_some() {
            return self.reset_both_ends(ended, snapshot);
        }
        // Each tells one end, if that is near.
        self.reset_near_end(ended, ended.session.opened, snapshot);
        self.reset_near_end(ended, ended.session.opened.reversed(), snapshot);
    }
}
