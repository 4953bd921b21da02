//! What one other node tells this one.

use super::CopyStatus;
use super::host::CopyHost;
use super::names::HeardNames;
use super::slots::Marks;
use crate::flow::{CanonicalKey, Direction};
use crate::ha::records::{self, Record, SessionRecord};
use crate::ha::stream::Receiver;
use crate::session::{CopyOutcome, Placement, Precedence, Removed, Session, SessionChange, SessionId, SessionWorker};
use crate::time::{Duration, Instant};

/// Datagrams that are applied in a step.
const APPLIED_AT_ONCE: usize = 64;
/// Slots that are visited in a step for sessions that the other node does not have.
const SWEPT_AT_ONCE: u32 = 8192;
/// How long after copies were refused they are asked for again.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// A node is not ready if something that has arrived has waited for this long to be applied.
const BEHIND_MAX: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Incoming {
    receiver: Receiver,
    names: HeardNames,
    generation: u64,
    /// The full pass that is under way or being searched.
    pass: Option<IncomingPass>,
    /// All sessions that need a copy were told in a full pass, and no other one has begun.
    is_complete: bool,
    /// The stream goes on, but what a full pass of it told before is no longer what counts here.
    is_superseded: bool,
    /// Copies that had no room or were in conflict since the last full pass began.
    refused: u64,
    /// Those of them that had no room.
    without_room: u64,
    /// When the last one was refused.
    refused_at: Instant,
    /// Those since then that referred to something that is not in this node's configuration.
    unknown: u64,
    /// There were such, and the configuration is another one now.
    has_new_names: bool,
    refusals: Refusals,
}

/// A full pass of the other node, as it arrives here: between its first and its last record, the slots of all sessions
/// that are told are marked, and then those without a mark are ended.
#[derive(Debug)]
struct IncomingPass {
    number: u32,
    /// The slots of the sessions that were told since it began.
    marks: Marks,
    /// `Some` once its last record has arrived: the next slot that is searched for sessions that were not told.
    sweep: Option<u32>,
}

/// What was told and could not be applied, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refusals {
    counts: [u64; Unapplied::ALL.len()],
}

named_enum! {
    /// Why something that was told could not be applied.
    pub enum Unapplied {
        /// The table is full of sessions that must not be evicted.
        Full = "full",
        /// Packets of the session could not be distinguished from those of another one.
        Conflict = "conflict",
        /// It refers to something that is not in this node's configuration.
        UnknownName = "unknown_name",
        /// It could not be read.
        Unreadable = "unreadable",
    }
}

impl Refusals {
    /// How often something could not be applied for this reason.
    pub fn count(&self, reason: Unapplied) -> u64 {
        self.counts[reason as usize]
    }

    fn add(&mut self, reason: Unapplied) {
        self.counts[reason as usize] += 1;
    }
}

/// What records are applied to.
pub(super) struct CopyTarget<'a> {
    pub(super) owner: &'a mut SessionWorker,
    pub(super) host: &'a mut dyn CopyHost,
    pub(super) is_router: bool,
    /// Since when this node forwards packets, if it began so recently that the one before it may still tell what it did
    /// until then, or does with packets that are still on their way.
    pub(super) took_over: Option<Instant>,
    /// The node that tells is the active one, as far as is known.
    pub(super) is_of_active: bool,
    pub(super) held: &'a mut usize,
    /// Sessions that were inserted, renewed or ended.
    pub(super) news: &'a mut Vec<SessionChange>,
    /// A session had to end for a copy.
    pub(super) has_displaced: &'a mut bool,
    pub(super) now: Instant,
}

impl CopyTarget<'_> {
    /// Ends the session of a flow, unless this node forwards packets and knows better: it does once a packet used the
    /// session here.
    fn end(&mut self, key: &CanonicalKey, opened: Direction) {
        let table = self.owner.table();
        let Some(id) = table.find_by_direction(key, opened) else { return };
        let Some((known, session, _)) = table.copy(id) else { return };
        // The key may be that of the inside of another session.
        let is_flow = known == *key && session.original_direction == opened;
        let is_right = !self.is_router || self.took_over.is_some_and(|took_over| session.last_seen < took_over);
        if is_flow
            && is_right
            && let Some(ended) = self.owner.close(id)
        {
            self.news.push(SessionChange::Ended { id, key: *key, opened });
            self.ended(&ended);
        }
    }

    fn ended(&mut self, ended: &Removed) {
        *self.held = self.held.saturating_sub(usize::from(ended.session.worker() == self.owner.number()));
        self.host.ended(ended, None, self.now);
    }
}

impl Incoming {
    /// `me` is a number by which the other node recognises who has what it told.
    pub(super) fn new(me: u64) -> Self {
        Self {
            receiver: Receiver::new(me),
            names: HeardNames::default(),
            generation: 0,
            pass: None,
            is_complete: false,
            is_superseded: false,
            refused: 0,
            without_room: 0,
            refused_at: Instant::ZERO,
            unknown: 0,
            has_new_names: false,
            refusals: Refusals::default(),
        }
    }

    /// Takes a datagram. True if a stream begins with it.
    pub(super) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> bool {
        let begins = self.receiver.handle_datagram(datagram, now);
        if begins {
            self.names.clear();
            (self.pass, self.is_complete, self.is_superseded) = (None, false, false);
        }
        begins
    }

    pub(super) fn poll_ack(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.receiver.poll_ack(now)
    }

    /// When there is something to apply or to acknowledge; a node that is not heard gets no acknowledgement.
    pub(super) fn poll_timeout(&self, is_heard: bool) -> Option<Instant> {
        let has_work = self.receiver.has_records() || self.pass.as_ref().is_some_and(|pass| pass.sweep.is_some());
        if has_work { Some(Instant::ZERO) } else { self.receiver.poll_timeout().filter(|_| is_heard) }
    }

    /// True if copies were refused for which there may be room or names now: all has to be told again.
    pub(super) fn needs_again(&self, free: usize, now: Instant) -> bool {
        let has_room = usize::try_from(self.refused).is_ok_and(|refused| refused <= free);
        self.has_new_names || (self.refused > 0 && has_room && now.since(self.refused_at) >= REFUSED_PAUSE)
    }

    /// Begins to listen anew as `me`, which makes the other node tell everything again.
    pub(super) fn begin_again(&mut self, me: u64) {
        self.receiver.begin_again(me);
        self.names.clear();
        (self.pass, self.is_complete, self.has_new_names) = (None, false, false);
        self.is_superseded = false;
        (self.refused, self.without_room, self.unknown) = (0, 0, 0);
    }

    /// Keeps what a pass would drop, because this node or another one decides from here on which sessions there are.
    /// What was refused until now is that node's business, too.
    pub(super) fn stop_pass(&mut self) {
        self.is_superseded |= self.pass.is_some() || self.is_complete;
        (self.pass, self.is_complete) = (None, false);
        (self.refused, self.without_room, self.unknown) = (0, 0, 0);
    }

    /// True if the node has to tell everything again should it be the active one.
    pub(super) fn is_superseded(&self) -> bool {
        self.is_superseded
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.is_complete && self.refused == 0 && self.behind(now) < BEHIND_MAX
    }

    /// For how long the oldest datagram that has arrived waits to be applied.
    fn behind(&self, now: Instant) -> Duration {
        self.receiver.behind_since().map_or(Duration::ZERO, |since| now.since(since))
    }

    pub(super) fn status(&self, status: CopyStatus, now: Instant) -> CopyStatus {
        CopyStatus {
            is_complete: self.is_complete,
            behind: self.behind(now),
            refusals: self.refusals,
            without_room: self.without_room,
            ..status
        }
    }

    /// Applies what has arrived, and goes on with the search for what was not told.
    pub(super) fn apply(&mut self, target: &mut CopyTarget<'_>) {
        if self.generation != target.host.generation() {
            self.generation = target.host.generation();
            self.names.follow(target.host);
            self.has_new_names |= self.unknown > 0;
        }
        for _ in 0..APPLIED_AT_ONCE {
            let Some(datagram) = self.receiver.poll_records(target.now) else { break };
            for record in records::decode(&datagram) {
                match record {
                    Ok(record) => self.apply_record(record, target),
                    Err(_) => self.refusals.add(Unapplied::Unreadable),
                }
            }
        }
        self.sweep(target);
    }

    fn apply_record(&mut self, record: Record, target: &mut CopyTarget<'_>) {
        match record {
            Record::Session(session) => match self.apply_session(&session, target) {
                Ok(id) => self.pass.as_mut().into_iter().for_each(|pass| pass.marks.set(id.slot)),
                Err(reason) => {
                    // A router has the sessions that it needs, and refuses others rightly.
                    if !target.is_router {
                        self.refused += u64::from(reason != Unapplied::UnknownName);
                        self.without_room += u64::from(reason == Unapplied::Full);
                        self.unknown += u64::from(reason == Unapplied::UnknownName);
                        self.refused_at = target.now;
                    }
                    self.refusals.add(reason);
                    // What was told of it before is no longer true.
                    target.end(&session.key, session.opened);
                }
            },
            Record::End { key, opened } => target.end(&key, opened),
            Record::Name { kind, number, name } => self.names.learn(kind, number, name, target.host),
            Record::PassBegins { pass } if !target.is_router && target.is_of_active => {
                let marks = match self.pass.take() {
                    Some(IncomingPass { mut marks, .. }) => {
                        marks.clear();
                        marks
                    }
                    None => Marks::new(target.owner.table().capacity()),
                };
                self.pass = Some(IncomingPass { number: pass, marks, sweep: None });
                self.is_complete = false;
                (self.refused, self.without_room, self.unknown) = (0, 0, 0);
            }
            Record::PassEnds { pass, sessions: _ } => {
                let heard = self.pass.as_mut().filter(|heard| heard.number == pass);
                heard.into_iter().for_each(|heard| heard.sweep = Some(0));
            }
            Record::PassBegins { pass: _ } => (self.is_superseded, self.is_complete) = (true, false),
        }
    }

    /// Makes the table have a session that was told.
    fn apply_session(&self, record: &SessionRecord, target: &mut CopyTarget<'_>) -> Result<SessionId, Unapplied> {
        let (mut session, placement) =
            self.names.session(record, target.host, target.now).ok_or(Unapplied::UnknownName)?;
        if let Some(took_over) = target.took_over {
            // Only packets that this node forwards count as seen since it took over.
            let last = Instant::from_nanos(took_over.as_nanos().saturating_sub(1));
            session.last_seen = session.last_seen.min(last);
        }
        let precedence = match (target.is_router, target.took_over) {
            (false, _) => Precedence::Copy,
            (true, Some(took_over)) => Precedence::UnusedSince(took_over),
            (true, None) => Precedence::SeenLater,
        };
        let now = target.now;
        let CopyTarget { owner, host, held, news, has_displaced, .. } = target;
        let number = owner.number();
        let outcome = owner.put_copy(&record.key, placement, session, precedence, now, |ended| {
            **has_displaced = true;
            **held = held.saturating_sub(usize::from(ended.session.worker() == number));
            host.ended(&ended, None, now);
        });
        match outcome {
            CopyOutcome::Inserted(id) => {
                **held += 1;
                news.push(SessionChange::Changed(id));
                host.opened(&record.key, &session, placement.as_ref(), now);
                Ok(id)
            }
            CopyOutcome::Renewed { id, before } => {
                // Two nodes that both have just taken over must not tell each other the same thing again and again.
                if differ(&before, &session) {
                    news.push(SessionChange::Changed(id));
                }
                host.renewed(&before, &session, placement.as_ref());
                Ok(id)
            }
            CopyOutcome::Older(id) => Ok(id),
            CopyOutcome::Conflict => Err(Unapplied::Conflict),
            CopyOutcome::Full => Err(Unapplied::Full),
        }
    }

    /// After a full pass, ends sessions that the other node did not tell of, unless they are as it would make them.
    fn sweep(&mut self, target: &mut CopyTarget<'_>) {
        let Some(IncomingPass { number: _, marks, sweep: Some(cursor) }) = &mut self.pass else { return };
        let end = cursor.saturating_add(SWEPT_AT_ONCE);
        let mut ended = Vec::new();
        let CopyTarget { owner, host, now, .. } = target;
        let (number, now) = (owner.number(), *now);
        let is_over = |id: SessionId, key: &CanonicalKey, session: &Session, placement: Option<&Placement>| {
            let is_copy = placement.is_some() || session.worker() == number;
            !marks.has(id.slot) && (is_copy || host.needs_copy(key, session, placement, now))
        };
        let is_done = owner.end_where(*cursor..end, is_over, |removed| ended.push(removed));
        *cursor = end;
        ended.iter().for_each(|ended| target.ended(ended));
        if is_done {
            (self.pass, self.is_complete) = (None, true);
        }
    }
}

/// True if one of the two tells more or other things of a session than the other, but for its times.
fn differ(before: &Session, after: &Session) -> bool {
    let pins = |session: &Session| {
        [session.toward_low, session.toward_high].map(|pin| pin.map(|pin| (pin.firewall, pin.state)))
    };
    before.state != after.state
        || before.told_flags() != after.told_flags()
        || before.packets != after.packets
        || pins(before) != pins(after)
}
