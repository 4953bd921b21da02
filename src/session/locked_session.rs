//! Access to a session in place, for packets that change little of it.

use crate::flow::{CanonicalKey, Direction};
use crate::path::pinning::Pin;
use crate::session::record::SlotRef;
use crate::session::{Placement, ProtocolClass};
use crate::time::Instant;
use crate::wire::frame::TcpSegment;

/// A locked session, lent by [`crate::session::SessionTable::with_locked`].
#[derive(Debug)]
pub struct LockedSession<'a>(SlotRef<'a>);

impl<'a> LockedSession<'a> {
    #[inline]
    pub(super) fn new(place: SlotRef<'a>) -> Self {
        Self(place)
    }

    /// The canonical key of the flow.
    #[inline]
    pub fn key(&self) -> CanonicalKey {
        self.0.key()
    }

    /// The service and server of the flow, if it belongs to a virtual service.
    #[inline]
    pub fn placement(&self) -> Option<Placement> {
        self.0.placement()
    }

    /// The direction of the first packet.
    #[inline]
    pub fn original_direction(&self) -> Direction {
        self.0.direction_and_class().0
    }

    /// The protocol class, which selects the timeouts.
    #[inline]
    pub fn class(&self) -> ProtocolClass {
        self.0.direction_and_class().1
    }

    /// The pin for packets in `direction`.
    #[inline]
    pub fn pin_toward(&self, direction: Direction) -> Option<Pin> {
        self.0.pin_toward(direction)
    }

    /// Changes the pin for packets in `direction`.
    #[inline]
    pub fn set_pin_toward(&self, direction: Direction, pin: &Pin) {
        self.0.put_pin_toward(direction, pin);
    }

    /// Counts a packet that does not change the state of the conversation, as
    /// [`crate::session::Session::record_packet`] does, and returns true. If the packet may change the state, it does
    /// nothing and returns false.
    #[inline]
    pub fn count_packet(&self, direction: Direction, tcp: Option<&TcpSegment>, bytes: usize, now: Instant) -> bool {
        self.0.count_packet(direction, tcp, bytes, now)
    }
}
