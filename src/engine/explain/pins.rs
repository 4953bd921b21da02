//! Puts pins into words.

use crate::engine::forwarder::Pins;
use crate::engine::view::FlowEnd;
use crate::path::pinning::{Pin, PinChange};

/// The pins of a flow, each with the end that it is toward.
pub(super) fn labelled_pins(pins: &Pins) -> impl Iterator<Item = (&Pin, FlowEnd)> {
    let source = pins.toward_source.iter().map(|pin| (pin, FlowEnd::Source));
    source.chain(pins.toward_destination.iter().map(|pin| (pin, FlowEnd::Destination)))
}

/// Why a pin changed, as a sentence.
pub(super) const fn change_text(change: PinChange) -> &'static str {
    match change {
        PinChange::Hashed => "The hash gives the flow its best firewall of those that take new flows.",
        PinChange::Learned => "The firewall let it pass, so it holds the state: the flow is pinned to it.",
        PinChange::Corrected => "Another firewall answers than the one it was sent to: the flow is pinned to that one.",
        PinChange::Followed => "The flow follows its peer to another firewall.",
        PinChange::Rotated => "Its firewall was asked and does not answer: the flow tries the next one.",
        PinChange::Reselected => "The firewall of its session failed: the hash gives the flow another one.",
    }
}
