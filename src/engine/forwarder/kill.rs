//! Ends the sessions that an operator selected. Each worker goes through its part of the session table in bounded steps
//! between batches.
//!
//! Sessions that are opened after the order was given are left alone, so that a killed connection can be opened again.
//! With resets, each engine resets the ends that it also resets for `on-failure = "reset"`: both ends of a session of
//! its own services, the client through the firewall that its packets came from; of any other session the ends on its
//! near side, but none through a firewall.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::engine::forwarder::Forwarder;
use crate::engine::{SessionMatcher, Snapshot};
use crate::session::{EndReason, ProtocolClass, Removed, Sweep};
use crate::time::Instant;

/// An order to end sessions, with its progress. All workers of an engine share it.
#[derive(Debug)]
pub struct KillOrder {
    selection: SessionMatcher,
    reset: bool,
    killed: AtomicU64,
    resets: AtomicU64,
    /// Number of workers that have not finished their part.
    workers_left: AtomicUsize,
}

/// The orders that one worker carries out.
#[derive(Debug, Default)]
pub(super) struct KillOrders {
    orders: Vec<KillProgress>,
    /// Sessions that one step ended; kept so that it need not be allocated again.
    ended: Vec<Removed>,
}

#[derive(Debug)]
struct KillProgress {
    order: Arc<KillOrder>,
    /// The next slot of this worker's part of the table.
    cursor: usize,
}

impl KillOrder {
    /// An order to end the sessions of `selection` that were opened at or before `now`, and with `reset` to send TCP
    /// resets to their ends. It is done when `workers` workers have carried it out.
    pub fn new(selection: SessionMatcher, reset: bool, workers: usize, now: Instant) -> Self {
        let selection = SessionMatcher { opened_until: Some(now), ..selection };
        Self {
            selection,
            reset,
            killed: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            workers_left: AtomicUsize::new(workers),
        }
    }

    /// The number of sessions that were ended, and of resets that were sent.
    pub fn counts(&self) -> (u64, u64) {
        (self.killed.load(Ordering::Relaxed), self.resets.load(Ordering::Relaxed))
    }

    /// True if all workers have finished.
    pub fn is_done(&self) -> bool {
        self.workers_left.load(Ordering::Acquire) == 0
    }
}

impl Forwarder {
    /// Adds an order for this worker to carry out.
    pub fn kill(&mut self, order: Arc<KillOrder>) {
        self.kill_orders.orders.push(KillProgress { order, cursor: 0 });
    }

    /// Visits at most `budget` slots for each order. True if there is more to do.
    pub(super) fn run_kill_orders(&mut self, snapshot: &Snapshot, now: Instant, budget: usize) -> bool {
        if self.kill_orders.orders.is_empty() {
            return false;
        }
        let mut orders = std::mem::take(&mut self.kill_orders.orders);
        orders.retain_mut(|working| !self.run_kill_order(working, snapshot, now, budget));
        self.kill_orders.orders = orders;
        !self.kill_orders.orders.is_empty()
    }

    /// Carries out a step of an order. True if this worker has finished it.
    fn run_kill_order(&mut self, working: &mut KillProgress, snapshot: &Snapshot, now: Instant, budget: usize) -> bool {
        let KillProgress { order, cursor } = working;
        // A session may need a reset to both ends, and each reset a place in the queue of frames to send.
        let budget = if order.reset { budget.min(self.transmits_free() / 2) } else { budget };
        let mut ended = std::mem::take(&mut self.kill_orders.ended);
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
            self.account_end(&removed, EndReason::Killed, snapshot, now);
            if order.reset && removed.session.class == ProtocolClass::Tcp {
                self.reset_killed(&removed, snapshot);
            }
        }
        order.resets.fetch_add(self.counters.resets_sent - resets, Ordering::Relaxed);
        self.kill_orders.ended = ended;
        if is_done {
            order.workers_left.fetch_sub(1, Ordering::Release);
        }
        is_done
    }

    /// Sends resets to the ends that this engine is responsible for.
    fn reset_killed(&mut self, ended: &Removed, snapshot: &Snapshot) {
        if ended.placement.is_some() {
            return self.reset_both_ends(ended, snapshot);
        }
        // Each call resets one end, if that is on the near side.
        self.reset_near_end(ended, ended.session.original_direction, snapshot);
        self.reset_near_end(ended, ended.session.original_direction.reversed(), snapshot);
    }
}
