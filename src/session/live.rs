//! A session where it lies, for packets that change little of it.

use crate::flow::{CanonicalKey, Direction};
use crate::path::pinning::Pin;
use crate::session::record::Place;
use crate::session::{Bound, Class};
use crate::time::Instant;
use crate::wire::frame::TcpSegment;

/// A live session that nobody else changes: [`crate::session::SessionTable::with_live`] lends it.
#[derive(Debug)]
pub struct Live<'a>(Place<'a>);

impl<'a> Live<'a> {
    #[inline]
    pub(super) fn new(place: Place<'a>) -> Self {
        Self(place)
    }

    /// Its ends.
    #[inline]
    pub fn key(&self) -> CanonicalKey {
        self.0.key()
    }

    /// What a service made of it.
    #[inline]
    pub fn bound(&self) -> Option<Bound> {
        self.0.bound()
    }

    /// Which way its first packet went.
    #[inline]
    pub fn opened(&self) -> Direction {
        self.0.opened().0
    }

    /// How it is timed.
    #[inline]
    pub fn class(&self) -> Class {
        self.0.opened().1
    }

    /// The pin for packets that go in `direction`.
    #[inline]
    pub fn pin_toward(&self, direction: Direction) -> Option<Pin> {
        self.0.pin_toward(direction)
    }

    /// Changes the pin for packets that go in `direction`.
    #[inline]
    pub fn set_pin_toward(&self, direction: Direction, pin: &Pin) {
        self.0.put_pin_toward(direction, pin);
    }

    /// Counts a packet that takes the conversation no further, as [`crate::session::Session::observe`] does, and answers true.
    /// Does nothing and answers false if it takes it further.
    #[inline]
    pub fn note(&self, direction: Direction, tcp: Option<&TcpSegment>, bytes: usize, now: Instant) -> bool {
        self.0.note(direction, tcp, bytes, now)
    }
}
