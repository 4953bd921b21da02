//! Lists the sessions of an engine for operators.
//!
//! A listing walks over the session table beside the workers: it locks nothing, and its memory is bounded by the length
//! of the answer. Only a request for rates remembers, for half a second, what each matching session had carried.

mod rank;
mod talkers;

use crate::api::sessions::{DEFAULT_LIMIT, PAGE_MAX};
use crate::api::{ApiError, Cursor, SessionFilter, SessionPage, SessionRequest, flow_text, names};
use crate::engine::view::{FlowEnd, PinView, SessionView};
use crate::engine::{SessionMatcher, Snapshot};
use crate::flow::{Direction, FlowKey};
use crate::path::pinning::Pin;
use crate::session::{Placement, Session, SessionTable, Timeouts};
use crate::slb::ForwardingMode;
use crate::time::{Duration, Instant};
use crate::wire::Family;

pub use rank::{EarlierTraffic, sorted};
pub use talkers::talkers;

/// The session table of an engine with what is needed to read it.
#[derive(Debug, Clone, Copy)]
pub struct Walk<'a> {
    /// Name of the engine.
    pub engine: &'a str,
    /// Its sessions.
    pub table: &'a SessionTable,
    /// Resolves the ids in sessions to names.
    pub snapshot: &'a Snapshot,
    /// The present time.
    pub now: Instant,
}

/// Resolves `filter` by this snapshot. Fails if it has an unknown name.
pub fn select(filter: &SessionFilter, snapshot: &Snapshot) -> Result<SessionMatcher, ApiError> {
    let SessionFilter { source, destination, hosts, ports, flow, firewall, service, server, state } = filter.clone();
    Ok(SessionMatcher {
        source,
        destination,
        hosts,
        ports,
        flow,
        firewalls: firewall.map(|name| names::firewalls(snapshot, &name)).transpose()?,
        service: service.map(|name| names::service(snapshot, &name)).transpose()?,
        servers: server.map(|name| names::servers(snapshot, &name)).transpose()?,
        state,
        opened_until: None,
    })
}

/// One page of the matching sessions in the order of the table; a session keeps its place while it lives. With the
/// first page, all matching sessions are counted.
pub fn page(walk: Walk<'_>, selection: &SessionMatcher, question: &SessionRequest) -> SessionPage {
    let limit = match question.limit.unwrap_or(DEFAULT_LIMIT) {
        0 => PAGE_MAX,
        limit => limit.min(PAGE_MAX),
    };
    let Walk { engine, table, snapshot, now } = walk;
    let from = match &question.after {
        None => 0,
        Some(after) => match after.of(engine) {
            Some(place) => place,
            None => return SessionPage::default(),
        },
    };
    // The first page has counted all of them.
    let counts = question.after.is_none() && !selection.is_all();
    let (mut rows, mut matched, mut next) = (Vec::new(), 0, None);
    table.walk(
        from,
        |key| selection.may_match(key),
        |id, key, session, bound| {
            if !selection.matches(key, session, bound) {
                return true;
            }
            matched += 1;
            if rows.len() < limit {
                let flow = key.in_direction(session.original_direction);
                rows.push(view(engine, &flow, (session, bound), &table.timeouts(), snapshot, now));
            } else if next.is_none() {
                next = Some(Cursor::at(engine, id.slot));
            }
            counts || next.is_none()
        },
    );
    // If every session matches and the walk ended early, the table knows how many there are.
    let all = if selection.is_all() && next.is_some() { matched.max(table.len() as u64) } else { matched };
    SessionPage { rows, total: question.after.is_none().then_some(all), next }
}

/// A session as it is, or was, at `now`.
pub(super) fn view(
    engine: &str,
    flow: &FlowKey,
    (session, bound): (&Session, Option<&Placement>),
    timeouts: &Timeouts,
    snapshot: &Snapshot,
    now: Instant,
) -> SessionView {
    let text = flow_text::format(flow);
    let mut words = text.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (protocol, source, destination) = (word(), word(), word());
    let identifier = word().parse().ok();
    let service = bound.and_then(|bound| snapshot.services.get(bound.service));
    let server = bound.zip(service).and_then(|(bound, of)| of.servers.iter().find(|one| one.id == bound.server));
    let inside = bound.and_then(|bound| bound.inside).map(|inside| flow_text::format(&inside));
    let mut inside = inside.iter().flat_map(|text| text.split(' ').skip(1)).map(str::to_owned);
    let translated_source = inside.next().filter(|inside| *inside != source);
    let translated_destination = inside.next().filter(|inside| *inside != destination);
    let is_tunnel = service.is_some_and(|service| service.mode == ForwardingMode::Tunnel);
    let unpacker = server.filter(|_| is_tunnel).and_then(|server| server.address(Family::of(flow.destination.address)));
    let tunnel = unpacker.map(|address| address.to_string());
    SessionView {
        engine: engine.to_owned(),
        protocol,
        source,
        destination,
        identifier,
        pins: pins(session).map(|(pin, toward)| PinView::new(pin, toward, snapshot)).collect(),
        service: service.map(|service| service.name.clone()),
        server: server.map(|server| server.name.clone()),
        translated_source,
        translated_destination,
        tunnel,
        state: session.state.shown().into(),
        age_ms: millis(now.since(session.created)),
        idle_ms: millis(now.since(session.last_seen)),
        expires_ms: millis(session.expires(timeouts).since(now)),
        packets: session.packets,
        bytes: session.bytes,
        packets_per_second: None,
        bits_per_second: None,
    }
}

/// The pins of the session, each with the end of the flow to which it leads.
fn pins(session: &Session) -> impl Iterator<Item = (&Pin, FlowEnd)> {
    let (low, high) = match session.original_direction {
        Direction::LowToHigh => (FlowEnd::Source, FlowEnd::Destination),
        Direction::HighToLow => (FlowEnd::Destination, FlowEnd::Source),
    };
    session.toward_low.iter().map(move |pin| (pin, low)).chain(session.toward_high.iter().map(move |pin| (pin, high)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
