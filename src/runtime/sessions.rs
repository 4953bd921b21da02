//! Sessions as an operator reads them.

use crate::api::{SessionFilter, flow_text};
use crate::engine::Snapshot;
use crate::engine::view::{PinView, SessionView};
use crate::flow::{Direction, FlowKey};
use crate::path::pinning::Pin;
use crate::session::{Session, SessionTable, Timeouts};
use crate::time::{Duration, Instant};

/// Sessions listed where the request sets no limit.
const LIMIT: usize = 1000;

/// The sessions that match, in the order of the table, up to the filter's limit.
pub(super) fn list(
    engine: &str,
    table: &SessionTable,
    snapshot: &Snapshot,
    filter: &SessionFilter,
    now: Instant,
) -> Vec<SessionView> {
    let limit = filter.limit.unwrap_or(LIMIT);
    let mut found = Vec::new();
    table.for_each(|key, session, _| {
        let flow = key.oriented(session.opened);
        if found.len() < limit && matches(&flow, session, snapshot, filter) {
            found.push(view(engine, &flow, session, table.timeouts(), snapshot, now));
        }
        found.len() < limit
    });
    found
}

fn matches(flow: &FlowKey, session: &Session, snapshot: &Snapshot, filter: &SessionFilter) -> bool {
    // Every part is taken apart, so that one that is added is asked for here.
    let SessionFilter { source, destination, firewall, state, limit: _ } = filter;
    let holds = |prefix: &Option<ipnet::IpNet>, address| prefix.is_none_or(|prefix| prefix.contains(&address));
    let on_firewall = firewall.as_ref().is_none_or(|wanted| {
        pins(session).any(|(pin, _)| {
            let (group, name) = names(pin, snapshot);
            *wanted == name || *wanted == format!("{group}/{name}")
        })
    });
    holds(source, flow.source.address)
        && holds(destination, flow.destination.address)
        && on_firewall
        && state.as_deref().is_none_or(|wanted| wanted == session.state.name())
}

fn view(
    engine: &str,
    flow: &FlowKey,
    session: &Session,
    timeouts: &Timeouts,
    snapshot: &Snapshot,
    now: Instant,
) -> SessionView {
    let text = flow_text::show(flow);
    let mut words = text.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (protocol, source, destination) = (word(), word(), word());
    let identifier = word().parse().ok();
    SessionView {
        engine: engine.to_owned(),
        protocol,
        source,
        destination,
        identifier,
        pins: pins(session).map(|(pin, toward)| PinView::new(pin, toward, snapshot)).collect(),
        service: None,
        server: None,
        translated_source: None,
        translated_destination: None,
        state: session.state.name().to_owned(),
        age_ms: millis(now.since(session.created)),
        idle_ms: millis(now.since(session.last_seen)),
        expires_ms: millis(session.expires(timeouts).since(now)),
        packets: session.packets,
        bytes: session.bytes,
    }
}

/// The session's pins, each with the end that it leads to.
fn pins(session: &Session) -> impl Iterator<Item = (&Pin, &'static str)> {
    let (low, high) = match session.opened {
        Direction::LowToHigh => ("source", "destination"),
        Direction::HighToLow => ("destination", "source"),
    };
    session.toward_low.iter().map(move |pin| (pin, low)).chain(session.toward_high.iter().map(move |pin| (pin, high)))
}

/// Group and firewall of a pin.
fn names<'a>(pin: &Pin, snapshot: &'a Snapshot) -> (&'a str, &'a str) {
    let firewall = &snapshot.firewalls[pin.firewall.index()];
    (&snapshot.groups[firewall.group.index()].name, &firewall.name)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
