//! Runs a check until it has a verdict. Its packets leave by the engine's own routes and neighbours, from the first
//! address of the family on their link.

use super::describe::describe_frame;
use super::{CheckEnd, CheckKey, Requester, RunningCheck, Timer};
use crate::config::{ForwardingMode, Service};
use crate::engine::controller::farm::Farm;
use crate::engine::controller::links::Links;
use crate::engine::controller::outbox::Outbox;
use crate::engine::controller::paths::Paths;
use crate::engine::controller::tally::Tally;
use crate::health::service_prober::{CheckTarget, CheckVerdict, ServerProber};
use crate::id::ServerId;
use crate::time::{Duration, Instant};
use crate::wire::emit::{AddressPair, MacPair};
use crate::wire::frame::ETHERNET_LEN;
use crate::wire::tunnel::{self, OuterHeader};
use crate::wire::{Family, MacAddr};

/// Why a check did not begin.
#[derive(Debug)]
pub(super) enum CheckNotStarted {
    /// All ports are in use by checks of the same server port, so that this one has to wait.
    Busy,
    /// The engine's own link is down.
    LinkDown(String),
    /// There is no route to the server, for this reason.
    NoRoute(String),
}

impl Farm {
    /// Begins a check, or says why it cannot begin.
    pub(super) fn launch_check(
        &mut self,
        (id, family): (ServerId, Family),
        asker: Requester,
        links: &mut Links,
        paths: &Paths,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), CheckNotStarted> {
        let no_way = |why: &str| CheckNotStarted::NoRoute(why.to_owned());
        let service = self.service_of(id);
        let server = &self.config.servers[id.index()];
        let address = self.config.address_for(id, family).ok_or_else(|| no_way("it has no address of the family"))?;
        let vip = || service.addresses.iter().copied().find(|address| Family::of(*address) == family);
        let remote = match service.mode {
            ForwardingMode::Nat | ForwardingMode::FullNat => address,
            // On the server, the service listens on the VIP only.
            ForwardingMode::Direct | ForwardingMode::Tunnel => vip().unwrap_or(address),
        };
        let is_packed = service.mode == ForwardingMode::Tunnel;
        let port = check_port(service, server.port);
        let check = service.check.clone();
        let random = self.random.next_u64();
        let way = paths.next_hop_to(address, None, None, random as u16, links);
        let (link, next_hop, _) = way.map_err(|unknown| CheckNotStarted::NoRoute(unknown.0))?;
        if let Some(why) = links.down_reason(link) {
            return Err(CheckNotStarted::LinkDown(why));
        }
        let name = &self.config.links[link.index()].name;
        let unable = || CheckNotStarted::NoRoute(format!("link {name} has no address to ask from"));
        let own = |end| links.source_address(link, end).ok_or_else(unable);
        let tunnel = if is_packed { AddressPair::new(own(address)?, address) } else { None };
        let local = match tunnel {
            None => own(address)?,
            // The answer comes from the VIP and not through a tunnel, so that any address of the engine will do.
            Some(_) => own(remote).or_else(|error| links.any_source_address(family).ok_or(error))?,
        };
        let pair = AddressPair::new(local, remote).ok_or_else(|| no_way("its addresses are of two families"))?;
        let key = self.checks.free_key(&check.kind, pair, port).ok_or(CheckNotStarted::Busy)?;
        let sequence = self.checks.ports.sequence(&key, now);
        let state = links.state(link);
        let destination = links.neighbors().mac((link, next_hop)).unwrap_or_default();
        let macs = MacPair { source: state.mac, destination };
        let outer = tunnel.map_or(0, |tunnel| tunnel::overhead(tunnel.family()));
        let way = CheckTarget {
            macs,
            addresses: pair,
            source_port: key.port,
            sequence,
            port,
            mtu: state.mtu.saturating_sub(outer),
        };
        let prober = ServerProber::start(&check, way, self.random.next_u64(), now);
        let prober = prober.ok_or_else(|| no_way("it is not checked"))?;
        out.count(Tally::ChecksSent);
        let vip = (remote != address).then_some(remote);
        let running =
            RunningCheck { prober, link, next_hop, tunnel, vip, requester: asker, excused: false, hint: None };
        let shortest = if self.checks.running.is_empty() { Duration::MAX } else { self.checks.shortest_timeout };
        self.checks.shortest_timeout = shortest.min(running.prober.timeout());
        self.checks.running.insert(key, running);
        self.with_check(key, links, now, |_| (), out);
        Ok(())
    }

    /// Lets a check act by `act`, and does what follows from it. `None` if the check is not running.
    pub(super) fn with_check<T>(
        &mut self,
        key: CheckKey,
        links: &mut Links,
        now: Instant,
        act: impl FnOnce(&mut ServerProber) -> T,
        out: &mut Outbox,
    ) -> Option<T> {
        let running = self.checks.running.get_mut(&key)?;
        let result = act(&mut running.prober);
        let mut frames = Vec::new();
        while let Some(frame) = running.prober.poll_frame() {
            if let Requester::Request(request) = &mut running.requester {
                request.note("sent", describe_frame(&frame, key), now);
            }
            frames.push(match running.tunnel {
                None => frame,
                Some(tunnel) => encapsulate(&frame, tunnel),
            });
        }
        let verdict = running.prober.poll_verdict();
        let (link, next_hop, done) = (running.link, running.next_hop, running.prober.is_done());
        let wake = running.prober.poll_timeout();
        for bytes in frames {
            links.send_to((link, next_hop), bytes, None, now);
        }
        if let Some(verdict) = verdict {
            self.check_ended(key, verdict, links, now, out);
        }
        self.checks.agenda.set(Timer::Check(key), (!done).then_some(wake));
        if done {
            match self.checks.running.remove(&key).map(|running| running.requester) {
                Some(Requester::Request(request)) => self.answer_request(*request, out),
                Some(Requester::Monitor(_)) | None => {}
            }
        }
        Some(result)
    }

    fn check_ended(&mut self, key: CheckKey, verdict: CheckVerdict, links: &Links, now: Instant, out: &mut Outbox) {
        let Some(running) = self.checks.running.get_mut(&key) else { return };
        let (neighbor, began) = ((running.link, running.next_hop), Some(running.prober.started()));
        let verdict = match verdict {
            CheckVerdict::Healthy(_) | CheckVerdict::Unhealthy(_) => verdict,
            CheckVerdict::TimedOut(what) => {
                CheckVerdict::TimedOut(match (links.neighbors().mac(neighbor), running.hint.take(), running.vip) {
                    (None, _, _) => format!("{} does not answer ARP or ND", running.next_hop),
                    (Some(_), Some(hint), _) => format!("{what}: {hint}"),
                    (Some(_), None, Some(vip)) => format!("{what}; is {vip} on the server's loopback?"),
                    (Some(_), None, None) => what,
                })
            }
        };
        let index = match &mut running.requester {
            Requester::Monitor(index) => *index,
            Requester::Request(request) => {
                request.verdict = Some(verdict);
                return;
            }
        };
        let result = match verdict {
            CheckVerdict::Healthy(rtt) => CheckEnd::Passed(rtt, running.prober.answer()),
            CheckVerdict::TimedOut(why) if running.excused && self.server_checks[index].monitor.may_excuse() => {
                CheckEnd::Excused(why)
            }
            CheckVerdict::Unhealthy(why) | CheckVerdict::TimedOut(why) => CheckEnd::Failed(why),
        };
        self.apply_check_result(index, result, began, now, out);
    }
}

/// Encapsulates a frame of a check. It is so short that it never needs fragments.
fn encapsulate(frame: &[u8], tunnel: AddressPair) -> Vec<u8> {
    let Some((header, packet)) = frame.split_first_chunk::<ETHERNET_LEN>() else { return Vec::new() };
    let mac = |at: usize| MacAddr([0, 1, 2, 3, 4, 5].map(|index: usize| header[at + index]));
    let macs = MacPair { source: mac(6), destination: mac(0) };
    let mut packed = Vec::new();
    tunnel::encapsulate(&mut packed, macs, &OuterHeader { addresses: tunnel, ident: 0, dont_fragment: true }, packet);
    packed
}

/// The check's own port, else the server's, else the service's first port.
pub(super) fn check_port(service: &Service, server: Option<u16>) -> u16 {
    let first = service.ports.first().map_or(0, |range| *range.start());
    service.check.port.or(server).unwrap_or(first)
}
