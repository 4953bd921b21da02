//! Sessions as an operator reads them.

use crate::api::{SessionFilter, flow_text, names};
use crate::engine::Snapshot;
use crate::engine::view::{PinView, SessionView};
use crate::flow::{CanonicalKey, Direction, FlowKey};
use crate::id::{ServerId, ServiceId};
use crate::path::pinning::Pin;
use crate::session::{Bound, Session, SessionTable, Timeouts};
use crate::slb::Mode;
use crate::time::{Duration, Instant};
use crate::wire::Family;

/// Sessions listed where the request sets no limit.
const LIMIT: usize = 1000;

/// The sessions that match, in the order of the table, up to the filter's limit.
pub fn list(
    engine: &str,
    table: &SessionTable,
    snapshot: &Snapshot,
    filter: &SessionFilter,
    now: Instant,
) -> Vec<SessionView> {
    let limit = filter.limit.unwrap_or(LIMIT);
    let mut found = Vec::new();
    let servers = Servers::new(snapshot, filter);
    let is_wanted = |key: &CanonicalKey| between(&key.oriented(Direction::LowToHigh), filter);
    table.for_each_of(is_wanted, |key, session, bound| {
        let flow = key.oriented(session.opened);
        if found.len() < limit && matches(&flow, session, snapshot, filter) && servers.matches(bound) {
            found.push(view(engine, &flow, (session, bound), &table.timeouts(), snapshot, now));
        }
        found.len() < limit
    });
    found
}

/// True if a session between these ends may be meant, whoever opened it.
fn between(flow: &FlowKey, SessionFilter { source, destination, .. }: &SessionFilter) -> bool {
    let holds = |prefix: &Option<ipnet::IpNet>, address| prefix.is_none_or(|prefix| prefix.contains(&address));
    let (low, high) = (flow.source.address, flow.destination.address);
    holds(source, low) && holds(destination, high) || holds(source, high) && holds(destination, low)
}

fn matches(flow: &FlowKey, session: &Session, snapshot: &Snapshot, filter: &SessionFilter) -> bool {
    // Every part is taken apart, so that one that is added is asked for here.
    let SessionFilter { source, destination, firewall, service: _, server: _, state, limit: _ } = filter;
    let holds = |prefix: &Option<ipnet::IpNet>, address| prefix.is_none_or(|prefix| prefix.contains(&address));
    let on_firewall = firewall.as_ref().is_none_or(|wanted| {
        pins(session).any(|(pin, _)| {
            let (group, name) = pin_names(pin, snapshot);
            *wanted == name || *wanted == format!("{group}/{name}")
        })
    });
    holds(source, flow.source.address)
        && holds(destination, flow.destination.address)
        && on_firewall
        && state.as_deref().is_none_or(|wanted| wanted == session.state.name())
}

/// A session as it is, or was at `now`.
pub(super) fn view(
    engine: &str,
    flow: &FlowKey,
    (session, bound): (&Session, Option<&Bound>),
    timeouts: &Timeouts,
    snapshot: &Snapshot,
    now: Instant,
) -> SessionView {
    let text = flow_text::show(flow);
    let mut words = text.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (protocol, source, destination) = (word(), word(), word());
    let identifier = word().parse().ok();
    let service = bound.and_then(|bound| snapshot.services.get(bound.service));
    let server = bound.zip(service).and_then(|(bound, of)| of.servers.iter().find(|one| one.id == bound.server));
    let inside = bound.and_then(|bound| bound.inside).map(|inside| flow_text::show(&inside));
    let mut inside = inside.iter().flat_map(|text| text.split(' ').skip(1)).map(str::to_owned);
    let translated_source = inside.next().filter(|inside| *inside != source);
    let translated_destination = inside.next().filter(|inside| *inside != destination);
    let is_tunnel = service.is_some_and(|service| service.mode == Mode::Tunnel);
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
        state: session.state.name().to_owned(),
        age_ms: millis(now.since(session.created)),
        idle_ms: millis(now.since(session.last_seen)),
        expires_ms: millis(session.expires(timeouts).since(now)),
        packets: session.packets,
        bytes: session.bytes,
    }
}

/// Which services and servers a filter means; looked up once for a whole table.
struct Servers {
    service: Option<Option<ServiceId>>,
    servers: Option<Vec<ServerId>>,
}

impl Servers {
    fn new(snapshot: &Snapshot, filter: &SessionFilter) -> Self {
        Self {
            service: filter.service.as_ref().map(|name| names::service(snapshot, name).ok()),
            servers: filter.server.as_ref().map(|name| names::servers(snapshot, name).unwrap_or_default()),
        }
    }

    fn matches(&self, bound: Option<&Bound>) -> bool {
        let service = self.service.is_none_or(|wanted| bound.is_some_and(|bound| Some(bound.service) == wanted));
        let server = self.servers.as_ref();
        service && server.is_none_or(|wanted| bound.is_some_and(|bound| wanted.contains(&bound.server)))
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
fn pin_names<'a>(pin: &Pin, snapshot: &'a Snapshot) -> (&'a str, &'a str) {
    let firewall = &snapshot.firewalls[pin.firewall.index()];
    (&snapshot.groups[firewall.group.index()].name, &firewall.name)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
