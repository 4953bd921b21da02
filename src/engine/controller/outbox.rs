//! What the parts of the controller want done, want told, and have to tell each other.
//!
//! A part knows the parts below it and none above. Whatever is not its own business it writes here: the controller sends the
//! frames, publishes, tells the operator, and hands each [`Notice`] to the parts that it concerns.

use std::collections::VecDeque;

use super::Event;
use super::journal::{Alarm, Journal, StateChange};
use super::tally::{Tallies, Tally};
use crate::engine::verdict::Transmit;
use crate::engine::view::{AlarmView, CheckLogView, ExchangeView};
use crate::id::LinkId;
use crate::time::Instant;
use crate::wire::MacAddr;

/// What one part found out and parts above it have to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// A link carries frames again.
    LinkUp(LinkId),
    /// A link has stopped to carry frames.
    LinkDown(LinkId),
    /// A neighbour was found, lost, or is at another hardware address.
    NeighborsChanged,
    /// The next hop of a frame that belongs to an operator's request answered, and the frame has left.
    NextHopFound {
        /// The request.
        request: u64,
        /// The hardware address of the next hop.
        mac: MacAddr,
    },
    /// The next hop of a frame that belongs to an operator's request does not answer, and the frame was dropped.
    NextHopSilent {
        /// The request.
        request: u64,
    },
}

/// The outbox of the parts; see the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Outbox {
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    notices: VecDeque<Notice>,
    journal: Journal,
    tallies: Tallies,
    /// The number of the last request of an operator.
    requests: u64,
    publish: bool,
    publish_at_once: bool,
}

impl Outbox {
    /// Has a frame of the engine's own sent.
    pub(super) fn transmit(&mut self, frame: Transmit) {
        self.count(Tally::FramesSent);
        self.transmits.push_back(frame);
    }

    /// Counts something.
    pub(super) fn count(&mut self, tally: Tally) {
        self.tallies.add(tally);
    }

    /// Has a snapshot published, when the pause after the last one is over.
    pub(super) fn publish(&mut self) {
        self.publish = true;
    }

    /// Has a snapshot published without a pause.
    pub(super) fn publish_at_once(&mut self) {
        (self.publish, self.publish_at_once) = (true, true);
    }

    /// Lets the parts above know.
    pub(super) fn notify(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    /// A number for a request of an operator, by which its answer is known.
    pub(super) fn new_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Answers a request of an operator.
    pub(super) fn answer(&mut self, request: u64, result: ExchangeView) {
        self.events.push_back(Event::Exchange { request, result });
    }

    /// Tells that `subject` went from one state to another.
    pub(super) fn report_change(
        &mut self,
        kind: &str,
        subject: &str,
        from: Option<&str>,
        to: Option<&str>,
        reason: Option<&str>,
        by: Option<&str>,
    ) {
        let change = self.journal.change_event(kind, subject, from, to, reason, by);
        self.events.push_back(Event::Change(change));
    }

    /// Tells that a state which stood since `since` has ended.
    pub(super) fn report_change_since(&mut self, since: Instant, now: Instant, changed: StateChange<'_>) {
        let change = self.journal.change_event_since(since, now, changed);
        self.events.push_back(Event::Change(change));
    }

    /// Tells the result of a health check.
    pub(super) fn report_check(&mut self, checked: CheckLogView) {
        self.events.push_back(Event::CheckEnded(checked));
    }

    /// Raises an alarm. One that stands already gets the newer reason and keeps its age.
    pub(super) fn raise_alarm(&mut self, alarm: Alarm, reason: String, now: Instant) {
        let change = self.journal.raise(alarm, reason, now);
        self.events.extend(change.map(Event::Change));
    }

    /// Clears an alarm, if it stands.
    pub(super) fn clear_alarm(&mut self, alarm: &Alarm, now: Instant) {
        let change = self.journal.clear(alarm, now);
        self.events.extend(change.map(Event::Change));
    }

    /// Forgets the alarms about things that a reload removed.
    pub(super) fn forget_alarms(&mut self, subjects: &[String]) {
        self.journal.forget(subjects);
    }

    /// Hands the owner something that only the controller itself has to tell.
    pub(super) fn push_event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// How many events wait, as a mark for [`Outbox::events_after`].
    pub(super) fn events(&self) -> usize {
        self.events.len()
    }

    /// The events that were told since there were `mark` of them.
    pub(super) fn events_after(&mut self, mark: usize) -> impl Iterator<Item = &mut Event> {
        self.events.iter_mut().skip(mark)
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether a snapshot is wanted; it is still wanted after this call.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.publish
    }

    /// Whether a snapshot was wanted at once since the last call.
    pub(super) fn take_urgency(&mut self) -> bool {
        std::mem::take(&mut self.publish_at_once)
    }

    /// A snapshot is published: nobody wants one.
    pub(super) fn published(&mut self) {
        self.publish = false;
    }

    pub(super) fn alarms(&self, now: Instant) -> Vec<AlarmView> {
        self.journal.alarms(now)
    }

    /// What was counted, by name.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.tallies.iter()
    }
}
