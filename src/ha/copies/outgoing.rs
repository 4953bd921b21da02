//! What this node tells one other node.

use super::CopyStatus;
use super::host::CopyHost;
use super::names::{ToldNames, record_of};
use super::pass::{self, Pass, PassKind, SLOTS_AT_ONCE, Turn};
use super::slots::Told;
use crate::flow::CanonicalKey;
use crate::ha::records::Record;
use crate::ha::stream::{AckOutcome, RECORDS_MAX, Sender, StreamId};
use crate::session::{Placement, Session, SessionChange, SessionId, SessionTable};
use crate::time::{Duration, Instant};

/// Datagrams that a pass leaves to changes.
const RESERVED_ROOM: usize = 64;
/// After so long without an acknowledgement the stream begins again.
const STALLED: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Outgoing {
    sender: Sender,
    /// The other end has to be given all of it again.
    is_broken: bool,
    /// The records of the next datagram.
    open: Vec<u8>,
    /// The names that were told, of the things of this generation.
    named: ToldNames,
    generation: u64,
    /// [`CopyHost::selection`] when the last pass began.
    selection: u64,
    told: Told,
    /// The visit of the whole session table that is under way.
    pass: Option<Pass>,
    /// A full pass is to begin as soon as there is room.
    wants_full_pass: bool,
    /// The number of the datagram with the end of the last full pass; `None` while one is wanted or under way.
    full_pass_end: Option<u64>,
    slow_pass_at: Instant,
    /// How long the last slow pass took.
    slow_pass_took: Duration,
    passes: u32,
    full_passes: u32,
    /// How many sessions the node needs copies of, as the last pass that came to its end counted them.
    needed: u32,
    /// Since when there is no room.
    full_since: Option<Instant>,
    /// Until when changes are told, and when the stream ends, because this node gave up its role.
    ends: Option<(Instant, Instant)>,
    records: u64,
    /// Datagrams that streams before this one sent again.
    resends: u64,
    /// Since when nothing was acknowledged, although the stream began again.
    failing_since: Option<Instant>,
}

impl Outgoing {
    pub(super) fn new(id: StreamId, slots: usize, now: Instant) -> Self {
        Self {
            sender: Sender::new(id, now),
            is_broken: false,
            open: Vec::with_capacity(RECORDS_MAX),
            named: ToldNames::default(),
            generation: 0,
            selection: 0,
            told: Told::new(slots),
            pass: None,
            wants_full_pass: true,
            full_pass_end: None,
            slow_pass_at: now,
            slow_pass_took: Duration::ZERO,
            passes: 0,
            full_passes: 0,
            needed: 0,
            full_since: None,
            ends: None,
            records: 0,
            resends: 0,
            failing_since: None,
        }
    }

    /// Begins with a new stream, as nobody knows what of this one has arrived.
    pub(super) fn begin_again(&mut self, id: StreamId, now: Instant) {
        if self.sender.stalled(now) >= STALLED {
            self.failing_since.get_or_insert(now);
        }
        self.resends += self.sender.resends();
        self.sender = Sender::new(id, now);
        self.is_broken = false;
        self.open.clear();
        self.named.clear();
        self.told.clear();
        (self.pass, self.full_since) = (None, None);
        self.request_full_pass();
    }

    /// True if the other process started again, or has acknowledged nothing for long.
    pub(super) fn has_to_begin_again(&self, now: Instant) -> bool {
        self.is_broken || self.sender.stalled(now) >= STALLED
    }

    pub(super) fn request_full_pass(&mut self) {
        (self.wants_full_pass, self.full_pass_end) = (true, None);
    }

    /// Tells changes until `told_until`, and sends what was told until `end`; no pass goes on.
    pub(super) fn end_by(&mut self, told_until: Instant, end: Instant) {
        self.ends = Some((told_until, end));
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        let is_flushed = self.sender.is_flushed() && self.open.is_empty();
        self.ends.is_some_and(|(told_until, end)| now >= end || (now > told_until && is_flushed))
    }

    /// True if the node has acknowledged a full pass, and no other one is wanted or under way: it has every copy but for
    /// changes that are on their way.
    pub(super) fn has_told_all(&self) -> bool {
        self.full_pass_end.is_some_and(|end| self.sender.first_unacknowledged() > end)
    }

    pub(super) fn needed(&self) -> u32 {
        self.needed
    }

    pub(super) fn handle_ack(&mut self, ack: &[u8], now: Instant) {
        match self.sender.handle_ack(ack, now) {
            AckOutcome::Progress => self.failing_since = None,
            AckOutcome::NoProgress => {}
            AckOutcome::ReceiverRestarted => self.is_broken = true,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.sender.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.sender.poll_timeout()
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.sender.poll_transmit()
    }

    /// True if changes can be told.
    pub(super) fn has_room(&mut self) -> bool {
        let has_room = self.sender.room() > 0;
        if has_room {
            self.full_since = None;
        }
        has_room
    }

    /// True if there was no room for so long that changes are not kept for this node any more: a full pass follows when
    /// there is room.
    pub(super) fn gives_up_waiting(&mut self, now: Instant, patience: Duration) -> bool {
        let since = *self.full_since.get_or_insert(now);
        now.since(since) >= patience
    }

    /// Tells changes from here on even if there is no room, as it is the last time.
    pub(super) fn stop_waiting(&mut self) {
        self.full_since = None;
    }

    /// Follows a reload: numbers may have another meaning from here on, and other sessions need copies.
    pub(super) fn follow_generation(&mut self, host: &dyn CopyHost) {
        if self.generation != host.generation() {
            self.generation = host.generation();
            self.named.clear();
            self.request_full_pass();
        }
    }

    /// Tells a change, if the node has to know of it.
    pub(super) fn tell_change(
        &mut self,
        change: SessionChange,
        table: &SessionTable,
        host: &dyn CopyHost,
        now: Instant,
    ) {
        if self.ends.is_some_and(|(told_until, _)| now > told_until) {
            return;
        }
        if self.sender.room() == 0 && self.full_since.is_some() {
            self.request_full_pass();
            return;
        }
        let id = match change {
            SessionChange::Changed(id) => Some(id),
            SessionChange::Ended { id, key, opened } => {
                // The flow may have a session again. If it is not needed, the old one has ended nevertheless.
                if self.told.may_have(id) {
                    self.append(&Record::End { key, opened }, now);
                }
                table.find_by_direction(&key, opened)
            }
        };
        if let Some(id) = id
            && let Some((key, session, placement)) = table.copy(id)
        {
            self.tell(id, &key, &session, placement.as_ref(), host, now);
        }
    }

    /// Tells a session as it is, or that it needs no copy any more. True if it needs one.
    fn tell(
        &mut self,
        id: SessionId,
        key: &CanonicalKey,
        session: &Session,
        placement: Option<&Placement>,
        host: &dyn CopyHost,
        now: Instant,
    ) -> bool {
        let needs_copy =
            host.needs_copy(key, session, placement, now) && self.tell_names(session, placement, host, now);
        if needs_copy {
            self.told.set(id);
            self.append(&Record::Session(record_of(key, session, placement, now)), now);
        } else if self.told.take(id) {
            self.append(&Record::End { key: *key, opened: session.original_direction }, now);
        }
        needs_copy
    }

    /// Tells the names of what the session refers to, where that is still to be done. False if something has none.
    fn tell_names(
        &mut self,
        session: &Session,
        placement: Option<&Placement>,
        host: &dyn CopyHost,
        now: Instant,
    ) -> bool {
        let Some(names) = self.named.untold(session, placement, host) else { return false };
        names.iter().for_each(|name| self.append(name, now));
        true
    }

    fn append(&mut self, record: &Record, now: Instant) {
        let at = self.open.len();
        record.encode(&mut self.open);
        self.records += 1;
        if self.open.len() > RECORDS_MAX {
            let next = self.open.split_off(at);
            self.flush(now);
            self.open = next;
        }
    }

    /// Makes a datagram of what was told.
    pub(super) fn flush(&mut self, now: Instant) {
        if !self.open.is_empty() {
            let records = std::mem::replace(&mut self.open, Vec::with_capacity(RECORDS_MAX));
            self.sender.push(records, now);
        }
    }

    /// True while a pass is under way or due.
    pub(super) fn is_passing(&self) -> bool {
        self.pass.is_some() || self.wants_full_pass
    }

    /// Goes on with the pass, if there is room.
    pub(super) fn step_pass(&mut self, table: &SessionTable, host: &dyn CopyHost, now: Instant) {
        if self.ends.is_some() {
            return;
        }
        let pause = pass::pause(&table.timeouts());
        if self.selection != host.selection() {
            // A pass that is under way has visited some sessions too early, and another one follows it at once. It goes on
            // nevertheless: where the selection changes again and again, none would ever end.
            self.selection = host.selection();
            self.slow_pass_at = now;
        }
        let mut pass = match self.pass {
            Some(pass) if pass.kind == PassKind::Full || !self.wants_full_pass => pass,
            Some(_) | None if self.wants_full_pass && self.sender.room() > RESERVED_ROOM => {
                self.begin_full_pass(pause, now)
            }
            None if now >= self.slow_pass_at => self.begin_slow_pass(pause, now),
            Some(_) | None => return,
        };
        let timeouts = table.timeouts();
        let end = pass.cursor.saturating_add(SLOTS_AT_ONCE);
        let mut at = Some(pass.cursor);
        while let Some(cursor) = at.filter(|cursor| *cursor < end)
            && self.sender.room() > RESERVED_ROOM
        {
            // After each session that is told there may be no room.
            at = table.walk_slots(
                cursor..end,
                |_| true,
                |id, key, session, placement| {
                    let is_due = match pass.kind {
                        PassKind::Full => true,
                        PassKind::Slow(turn) => !self.told.has(id) || turn.renews(key, session, &timeouts, now),
                    };
                    let needs_copy = if is_due {
                        self.tell(id, key, session, placement, host, now)
                    } else {
                        host.needs_copy(key, session, placement, now)
                            || self.tell(id, key, session, placement, host, now)
                    };
                    pass.needed += u32::from(needs_copy);
                    self.sender.room() > RESERVED_ROOM
                },
            );
        }
        match at {
            Some(cursor) => self.pass = Some(Pass { cursor, ..pass }),
            None => self.end_pass(pass, now),
        }
    }

    fn begin_full_pass(&mut self, pause: Duration, now: Instant) -> Pass {
        self.slow_pass_at = now + pause;
        (self.wants_full_pass, self.full_pass_end) = (false, None);
        self.passes += 1;
        self.full_passes += 1;
        self.append(&Record::PassBegins { pass: self.passes }, now);
        Pass { kind: PassKind::Full, number: self.passes, began: now, cursor: 0, needed: 0 }
    }

    fn begin_slow_pass(&mut self, pause: Duration, now: Instant) -> Pass {
        self.slow_pass_at = now + pause;
        self.passes += 1;
        let turn = Turn::new(self.passes, pause.max(self.slow_pass_took));
        Pass { kind: PassKind::Slow(turn), number: self.passes, began: now, cursor: 0, needed: 0 }
    }

    fn end_pass(&mut self, pass: Pass, now: Instant) {
        match pass.kind {
            PassKind::Full => {
                self.append(&Record::PassEnds { pass: pass.number, sessions: pass.needed }, now);
                self.full_pass_end = Some(self.sender.next_pushed()).filter(|_| !self.wants_full_pass);
            }
            PassKind::Slow(_) => self.slow_pass_took = now.since(pass.began),
        }
        self.needed = pass.needed;
        self.pass = None;
    }

    pub(super) fn status(&self, table: &SessionTable, now: Instant) -> CopyStatus {
        let slots = u32::try_from(table.capacity()).unwrap_or(u32::MAX);
        CopyStatus {
            needed: self.needed,
            is_flushed: self.sender.is_flushed() && self.open.is_empty(),
            stalled: self.sender.stalled(now),
            pass: self.pass.map(|pass| (pass.cursor, slots)),
            full_passes: self.full_passes,
            records: self.records,
            resends: self.resends + self.sender.resends(),
            failing: self.failing_since.map_or(Duration::ZERO, |since| now.since(since) + STALLED),
            ..CopyStatus::default()
        }
    }
}
