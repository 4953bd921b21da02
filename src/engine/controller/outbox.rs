//! What the parts of the controller want to be done or reported, and have to tell each other.
//!
//! A part knows the parts below it and none above. Whatever is not its own business it writes here. The controller
//! sends the frames, publishes, reports to the operator, and dispatches each [`Notice`] to the parts that it concerns.

use std::collections::{BTreeSet, VecDeque};

use super::Event;
use super::journal::Journal;
use super::tally::{Tallies, Tally};
use crate::engine::change::{Alarm, StateChange, Subject};
use crate::engine::verdict::Transmit;
use crate::engine::view::{AlarmView, CheckLogView, ExchangeView};
use crate::id::LinkId;
use crate::time::Instant;
use crate::wire::MacAddr;

/// What one part found out and the parts above it have to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// A link carries frames again.
    LinkUp(LinkId),
    /// A link carries no frames any more.
    LinkDown(LinkId),
    /// A neighbour was found or lost, or has another MAC address.
    NeighborsChanged,
    /// The next hop of a frame that belongs to an operator's request answered, and the frame has left.
    NextHopFound {
        /// The request.
        request: u64,
        /// The MAC address of the next hop.
        mac: MacAddr,
    },
    /// The next hop of a frame that belongs to an operator's request does not answer, and the frame was dropped.
    NextHopSilent {
        /// The request.
        request: u64,
    },
}

/// The outbox of the parts; see the module documentation.
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
    /// Queues a frame of the engine's own to be sent.
    pub(super) fn transmit(&mut self, frame: Transmit) {
        self.count(Tally::FramesSent);
        self.transmits.push_back(frame);
    }

    /// Counts something.
    pub(super) fn count(&mut self, tally: Tally) {
        self.tallies.add(tally);
    }

    /// Requests a snapshot, to be published when the pause after the last one is over.
    pub(super) fn publish(&mut self) {
        self.publish = true;
    }

    /// Requests a snapshot, to be published without a pause.
    pub(super) fn publish_at_once(&mut self) {
        (self.publish, self.publish_at_once) = (true, true);
    }

    /// Notifies the parts above.
    pub(super) fn notify(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    /// A number for a request of an operator, which identifies its answer.
    pub(super) fn new_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Answers a request of an operator.
    pub(super) fn answer(&mut self, request: u64, result: ExchangeView) {
        self.events.push_back(Event::Exchange { request, result });
    }

    /// Reports that an object went from one state to another.
    pub(super) fn report_change(&mut self, change: StateChange) {
        self.events.push_back(Event::Change(change));
    }

    /// Reports the result of a health check.
    pub(super) fn report_check(&mut self, checked: CheckLogView) {
        self.events.push_back(Event::CheckEnded(checked));
    }

    /// Raises an alarm. One that is active already gets the newer reason and keeps its age.
    pub(super) fn raise_alarm(&mut self, alarm: Alarm, reason: String, now: Instant) {
        let change = self.journal.raise(alarm, reason, now);
        self.events.extend(change.map(Event::Change));
    }

    /// Clears an alarm, if it is active.
    pub(super) fn clear_alarm(&mut self, alarm: &Alarm, now: Instant) {
        let change = self.journal.clear(alarm, now);
        self.events.extend(change.map(Event::Change));
    }

    /// Forgets the alarms about things that a reload removed.
    pub(super) fn forget_alarms(&mut self, gone: &BTreeSet<Subject>) {
        self.journal.forget(gone);
    }

    /// Queues an event for the owner that only the controller itself can make.
    pub(super) fn push_event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// How many events are queued, as a mark for [`Outbox::events_after`].
    pub(super) fn events(&self) -> usize {
        self.events.len()
    }

    /// The events that were queued since there were `mark` of them.
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

    /// Whether a snapshot is requested; the request stays after this call.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.publish
    }

    /// Whether a snapshot was requested without a pause since the last call.
    pub(super) fn take_urgency(&mut self) -> bool {
        std::mem::take(&mut self.publish_at_once)
    }

    /// A snapshot was published, so that none is requested.
    pub(super) fn published(&mut self) {
        self.publish = false;
    }

    pub(super) fn alarms(&self, now: Instant) -> Vec<AlarmView> {
        self.journal.alarms(now)
    }

    /// The counts, by name.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.tallies.iter()
    }
}
