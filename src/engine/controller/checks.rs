//! The checks of real servers: when they begin, what comes back, what follows.
//!
//! A check leaves as the engine's own routes and neighbours say, from its link's first address of the family. Answers are
//! told from other traffic to the engine by their tuple. However a check of the engine's own ends, its result passes by
//! `judge_check`.

mod adopt;
mod asked;
mod excused;
mod known;
mod ports;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;

use self::asked::Request;
use self::ports::Ports;
use self::words::{describe, describe_frame};
use super::Controller;
use super::agenda::Agenda;
use super::neighbors::Waiting;
use super::tally::Tally;
use crate::config::{Config, Mode, Service, ServiceCheckKind};
use crate::engine::view::CheckedView;
use crate::health::monitor::State;
use crate::health::service_monitor::ServiceMonitor;
use crate::health::service_prober::{ServiceProber, Verdict, Way};
use crate::id::{LinkId, ServerId};
use crate::neighbor::Source;
use crate::time::{Duration, Instant};
use crate::wire::emit::{Macs, Pair};
use crate::wire::frame::{ETHERNET_LEN, Tuple, protocol, quoted_tuple};
use crate::wire::icmp::Echo;
use crate::wire::offload::Offload;
use crate::wire::tcp::Segment;
use crate::wire::tunnel::{self, Outer};
use crate::wire::vlan::VlanTag;
use crate::wire::{Family, MacAddr};

/// Time between the first checks of two servers, where there are many: 2,000 a second.
const START_GAP: Duration = Duration::from_micros(500);

/// A server in one family, and what its checks say.
#[derive(Debug, Clone)]
pub(super) struct ServerCheck {
    pub(super) server: ServerId,
    pub(super) family: Family,
    pub(super) monitor: ServiceMonitor,
}

/// What tells one check under way from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct CheckKey {
    local: IpAddr,
    protocol: u8,
    remote: IpAddr,
    /// 0 for echoes.
    remote_port: u16,
    /// Source port, or identifier of the echo.
    port: u16,
}

/// Who is called at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The monitor of a server.
    Monitor(usize),
    /// A check under way.
    Check(CheckKey),
}

/// A check under way.
#[derive(Debug)]
struct Running {
    prober: ServiceProber,
    link: LinkId,
    next_hop: IpAddr,
    /// Its packets go inside others, between these ends.
    tunnel: Option<Pair>,
    /// The address that is asked, where it is not the server's own: it has to stand on the server's loopback.
    vip: Option<IpAddr>,
    asker: Asker,
    /// The engine was not punctual: silence does not count.
    excused: bool,
    /// What somebody on the way said of the server.
    hint: Option<String>,
}

/// Who wants to know.
#[derive(Debug)]
enum Asker {
    /// The monitor of a server.
    Monitor(usize),
    /// An operator.
    Request(Box<Request>),
}

/// Why a check did not begin.
#[derive(Debug)]
enum NoCheck {
    /// All ports are taken by checks of the same server port: it has to wait.
    Busy,
    /// The engine's own link is down.
    LinkDown(String),
    /// There is no way to the server, for this reason.
    NoWay(String),
}

/// How a check ended that the engine made for itself.
#[derive(Debug)]
enum CheckResult {
    /// The server is well; the time that its answer took.
    Passed(Duration),
    /// It is not, or there is no way to it.
    Failed(String),
    /// It was silent, and the engine was not punctual.
    Excused(String),
    /// It was not asked: the engine's own link is down.
    Cut(String),
}

/// All checks that are under way.
#[derive(Debug)]
pub(super) struct Checks {
    running: BTreeMap<CheckKey, Running>,
    agenda: Agenda<Timer>,
    ports: Ports,
    /// Verdicts so far.
    verdicts: u64,
}

impl Checks {
    /// Nothing is under way; `random` is for ports and sequence numbers.
    pub(super) fn new(random: u64) -> Self {
        Self { running: BTreeMap::new(), agenda: Agenda::default(), ports: Ports::new(random), verdicts: 0 }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.agenda.poll_timeout()
    }
}

/// All servers without a verdict. The first checks begin at once, the next are spread over the interval.
pub(super) fn server_checks(config: &Config, now: Instant) -> Vec<ServerCheck> {
    let mut ends: Vec<(ServerId, Family)> = Vec::new();
    for server in config.server_ids() {
        ends.extend(config.families(server).map(|family| (server, family)));
    }
    let count = u32::try_from(ends.len()).unwrap_or(u32::MAX).max(1);
    let checks = ends.into_iter().zip(0..).map(|((server, family), place): (_, u32)| {
        let check = &config.services[config.servers[server.index()].service.index()].check;
        let share = Duration::from_nanos(
            u64::try_from(check.interval.as_nanos() * u128::from(place) / u128::from(count)).unwrap_or(0),
        );
        let first = now + share.min(START_GAP * place);
        let mut monitor = ServiceMonitor::new(check, first, now + share, now);
        if check.kind == ServiceCheckKind::None {
            monitor.trust(now);
        }
        ServerCheck { server, family, monitor }
    });
    checks.collect()
}

impl Controller {
    /// Puts every monitor on the agenda.
    pub(super) fn schedule_checks(&mut self) {
        for index in 0..self.server_checks.len() {
            self.schedule_monitor(index);
        }
    }

    /// The checks of a server, IPv4 first.
    pub(super) fn checks_of(&self, id: ServerId) -> impl Iterator<Item = &ServerCheck> {
        // They stand in the order of servers.
        let first = self.server_checks.partition_point(|check| check.server < id);
        self.server_checks[first..].iter().take_while(move |check| check.server == id)
    }

    /// Begins and ends what is due.
    pub(super) fn run_checks(&mut self, now: Instant) {
        while let Some(timer) = self.checks.agenda.take_due(now) {
            match timer {
                Timer::Monitor(index) => self.monitor_due(index, now),
                Timer::Check(key) => {
                    self.with_check(key, now, |prober| prober.handle_timeout(now));
                }
            }
        }
    }

    /// An echo reply to the engine; true if a check waited for it.
    pub(super) fn check_echo(&mut self, pair: Pair, echo: &Echo<'_>, now: Instant) -> bool {
        let protocol = echo_protocol(pair.family());
        let key =
            CheckKey { local: pair.destination(), protocol, remote: pair.source(), remote_port: 0, port: echo.ident };
        let what = || "ICMP echo reply".to_owned();
        self.checks.running.contains_key(&key) && {
            self.note_received(key, what, now);
            self.with_check(key, now, |prober| prober.handle_echo(echo, now)) == Some(true)
        }
    }

    /// A segment to the engine, in its IP packet, with a right checksum; true if it belongs to a check.
    pub(super) fn check_segment(&mut self, pair: Pair, packet: &[u8], segment: &Segment<'_>, now: Instant) -> bool {
        let key = CheckKey {
            local: pair.destination(),
            protocol: protocol::TCP,
            remote: pair.source(),
            remote_port: segment.source_port,
            port: segment.destination_port,
        };
        self.checks.running.contains_key(&key) && {
            self.note_received(key, || describe(segment), now);
            self.with_check(key, now, |prober| prober.handle_segment(packet, segment, now)).is_some()
        }
    }

    /// An ICMP error about a packet of the engine; true if that was a check's. Anybody could have sent it: it explains a
    /// silence, it ends nothing.
    pub(super) fn check_refused(&mut self, quoted: &Tuple, from: IpAddr) -> bool {
        let key = CheckKey {
            local: quoted.source,
            protocol: quoted.protocol,
            remote: quoted.destination,
            remote_port: if quoted.protocol == protocol::TCP { quoted.destination_port } else { 0 },
            port: quoted.source_port,
        };
        let Some(running) = self.checks.running.get_mut(&key) else { return false };
        running.hint = Some(format!("{from} says that {} is unreachable", quoted.destination));
        true
    }

    /// The same about a packet that had one of a check inside.
    pub(super) fn packed_check_refused(&mut self, family: Family, message: &[u8], from: IpAddr) -> bool {
        let Some(refused) = tunnel::refused(family, message) else { return false };
        let inner = match refused.packet.first().map(|first| first >> 4) {
            Some(4) => Family::V4,
            Some(6) => Family::V6,
            Some(_) | None => return false,
        };
        quoted_tuple(refused.packet, inner).is_some_and(|quoted| self.check_refused(&quoted, from))
    }

    fn monitor_due(&mut self, index: usize, now: Instant) {
        let changed = self.server_checks[index].monitor.handle_timeout(now);
        self.verdict_changed(index, changed);
        if self.server_checks[index].monitor.is_due(now) {
            let (server, family) = (self.server_checks[index].server, self.server_checks[index].family);
            self.server_checks[index].monitor.begin(now);
            match self.launch_check(server, family, Asker::Monitor(index), now) {
                Ok(()) => {}
                Err(NoCheck::Busy) => self.server_checks[index].monitor.postpone(now),
                Err(NoCheck::LinkDown(why)) => self.judge_check(index, CheckResult::Cut(why), now),
                Err(NoCheck::NoWay(why)) => self.judge_check(index, CheckResult::Failed(why), now),
            }
        }
        self.schedule_monitor(index);
    }

    /// A link is up: servers that were not asked for that are asked at once.
    pub(super) fn resume_checks(&mut self, now: Instant) {
        let cut = (0..self.server_checks.len()).filter(|index| self.server_checks[*index].monitor.is_cut());
        for (index, place) in cut.collect::<Vec<_>>().into_iter().zip(0..) {
            self.server_checks[index].monitor.hurry(now + START_GAP * place);
            self.schedule_monitor(index);
        }
    }

    fn schedule_monitor(&mut self, index: usize) {
        let check = &self.server_checks[index];
        let time =
            (self.service_of(check.server).check.kind != ServiceCheckKind::None).then(|| check.monitor.poll_timeout());
        self.checks.agenda.set(Timer::Monitor(index), time);
    }

    fn verdict_changed(&mut self, index: usize, changed: Option<State>) {
        if changed.is_some() {
            self.checks.verdicts += 1;
            self.farm.suspects.insert(self.server_checks[index].server);
            self.note_check(index);
        }
    }

    /// A family of a server that has two is told by itself: the server may stay up all the same.
    fn note_check(&mut self, index: usize) {
        let check = &self.server_checks[index];
        let (state, family) = (check.monitor.state(), super::judgement::family_name(check.family));
        let reason = match state {
            State::Down => check.monitor.last_failure().map(str::to_owned),
            State::Up | State::Starting => None,
        };
        if self.checks_of(check.server).count() > 1 {
            let subject = format!("{} {family}", self.server_name(check.server));
            self.change("check", &subject, None, Some(super::probes::path_state(state)), reason.as_deref(), None);
        }
    }

    /// Begins a check; or says why not.
    fn launch_check(&mut self, id: ServerId, family: Family, asker: Asker, now: Instant) -> Result<(), NoCheck> {
        let no_way = |why: &str| NoCheck::NoWay(why.to_owned());
        let service = self.service_of(id);
        let server = &self.config.servers[id.index()];
        let address = self.config.address_for(id, family).ok_or_else(|| no_way("it has no address of the family"))?;
        let vip = || service.addresses.iter().copied().find(|address| Family::of(*address) == family);
        let remote = match service.mode {
            Mode::Nat | Mode::FullNat => address,
            // The service listens on the VIP there, and only there.
            Mode::Direct | Mode::Tunnel => vip().unwrap_or(address),
        };
        let is_packed = service.mode == Mode::Tunnel;
        let port = check_port(service, server.port);
        let check = service.check.clone();
        let random = self.random.next();
        let way = self.ping_way(address, None, None, random as u16);
        let (link, next_hop, _) = way.map_err(|unknown| NoCheck::NoWay(unknown.0))?;
        if let Some(why) = self.link_down(link) {
            return Err(NoCheck::LinkDown(why));
        }
        let name = &self.config.links[link.index()].name;
        let unable = || NoCheck::NoWay(format!("link {name} has no address to ask from"));
        let own = |end| self.probe_source(link, end).ok_or_else(unable);
        let tunnel = if is_packed { Pair::new(own(address)?, address) } else { None };
        let local = match tunnel {
            None => own(address)?,
            // The answer comes as it is, from the VIP: any address of the engine will do.
            Some(_) => own(remote).or_else(|error| self.any_source(family).ok_or(error))?,
        };
        let pair = Pair::new(local, remote).ok_or_else(|| no_way("its addresses are of two families"))?;
        let key = self.checks.free_key(&check.kind, pair, port).ok_or(NoCheck::Busy)?;
        let sequence = self.checks.ports.sequence(&key, now);
        let state = &self.links[link.index()];
        let destination = self.neighbors.mac((link, next_hop)).unwrap_or_default();
        let macs = Macs { source: state.mac, destination };
        let outer = tunnel.map_or(0, |tunnel| tunnel::overhead(tunnel.family()));
        let way = Way { macs, pair, source_port: key.port, sequence, port, mtu: state.mtu.saturating_sub(outer) };
        let prober = ServiceProber::start(&check, way, self.random.next(), now);
        let prober = prober.ok_or_else(|| no_way("it is not checked"))?;
        self.tallies.add(Tally::ChecksSent);
        let vip = (remote != address).then_some(remote);
        let running = Running { prober, link, next_hop, tunnel, vip, asker, excused: false, hint: None };
        self.checks.running.insert(key, running);
        self.with_check(key, now, |_| ());
        Ok(())
    }

    /// Lets a check do something, and does what follows. `None` if it is not under way.
    fn with_check<T>(&mut self, key: CheckKey, now: Instant, act: impl FnOnce(&mut ServiceProber) -> T) -> Option<T> {
        let running = self.checks.running.get_mut(&key)?;
        let result = act(&mut running.prober);
        let mut frames = Vec::new();
        while let Some(frame) = running.prober.poll_frame() {
            if let Asker::Request(request) = &mut running.asker {
                request.note("sent", describe_frame(&frame, key), now);
            }
            frames.push(match running.tunnel {
                None => frame,
                Some(tunnel) => packed(&frame, tunnel),
            });
        }
        let verdict = running.prober.poll_verdict();
        let (link, next_hop, done) = (running.link, running.next_hop, running.prober.is_done());
        let wake = running.prober.poll_timeout();
        for bytes in frames {
            self.send_check(link, next_hop, bytes, now);
        }
        if let Some(verdict) = verdict {
            self.check_ended(key, verdict, now);
        }
        self.checks.agenda.set(Timer::Check(key), (!done).then_some(wake));
        if done {
            match self.checks.running.remove(&key).map(|running| running.asker) {
                Some(Asker::Request(request)) => self.answer_request(*request),
                Some(Asker::Monitor(_)) | None => {}
            }
        }
        Some(result)
    }

    /// Hands a frame to its neighbour, or lets it wait for one.
    fn send_check(&mut self, link: LinkId, next_hop: IpAddr, bytes: Vec<u8>, now: Instant) {
        let vlan = self.config.links[link.index()].vlan.map(VlanTag::new);
        let waiting = Waiting { link, vlan, offload: Offload::NONE, bytes, back: None, original: None, request: None };
        self.neighbors.park((link, next_hop), Source::ENGINE, waiting, now);
    }

    fn check_ended(&mut self, key: CheckKey, verdict: Verdict, now: Instant) {
        let Some(running) = self.checks.running.get_mut(&key) else { return };
        let neighbor = (running.link, running.next_hop);
        let verdict = match verdict {
            Verdict::Well(_) | Verdict::Ill(_) => verdict,
            Verdict::Silent(what) => {
                Verdict::Silent(match (self.neighbors.mac(neighbor), running.hint.take(), running.vip) {
                    (None, _, _) => format!("{} does not answer ARP or ND", running.next_hop),
                    (Some(_), Some(hint), _) => format!("{what}: {hint}"),
                    (Some(_), None, Some(vip)) => format!("{what}; is {vip} on the server's loopback?"),
                    (Some(_), None, None) => what,
                })
            }
        };
        let index = match &mut running.asker {
            Asker::Monitor(index) => *index,
            Asker::Request(request) => {
                request.verdict = Some(verdict);
                return;
            }
        };
        let result = match verdict {
            Verdict::Well(rtt) => CheckResult::Passed(rtt),
            Verdict::Silent(why) if running.excused && self.server_checks[index].monitor.may_excuse() => {
                CheckResult::Excused(why)
            }
            Verdict::Ill(why) | Verdict::Silent(why) => CheckResult::Failed(why),
        };
        self.judge_check(index, result, now);
    }

    /// The result of a check that the engine made for itself: counted, told, judged.
    fn judge_check(&mut self, index: usize, result: CheckResult, now: Instant) {
        let monitor = &mut self.server_checks[index].monitor;
        let (tally, changed) = match &result {
            CheckResult::Passed(_) => (Tally::ChecksPassed, monitor.succeeded(now)),
            CheckResult::Failed(why) => (Tally::ChecksFailed, monitor.failed(why.clone(), now)),
            CheckResult::Excused(_) => {
                monitor.excused(now);
                (Tally::ChecksExcused, None)
            }
            CheckResult::Cut(why) => (Tally::ChecksFailed, monitor.cut(why.clone(), now)),
        };
        self.tallies.add(tally);
        self.tell_result(index, result);
        self.verdict_changed(index, changed);
        self.tell_why(self.server_checks[index].server);
        self.schedule_monitor(index);
    }

    fn tell_result(&mut self, index: usize, result: CheckResult) {
        self.tell_checked(|controller| {
            let (result, rtt, reason) = match result {
                CheckResult::Passed(rtt) => ("passed", Some(rtt), None),
                CheckResult::Failed(why) | CheckResult::Cut(why) => ("failed", None, Some(why)),
                CheckResult::Excused(why) => ("excused", None, Some(why)),
            };
            let check = &controller.server_checks[index];
            let family = super::judgement::family_name(check.family);
            CheckedView {
                subject: format!("{} {family}", controller.server_name(check.server)),
                result,
                state: super::probes::path_state(check.monitor.state()),
                reason,
                rtt_us: rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            }
        });
    }

    fn service_of(&self, server: ServerId) -> &Service {
        &self.config.services[self.config.servers[server.index()].service.index()]
    }
}

/// A frame of a check, inside another one. It is short: nobody has to cut it.
fn packed(frame: &[u8], tunnel: Pair) -> Vec<u8> {
    let Some((header, packet)) = frame.split_first_chunk::<ETHERNET_LEN>() else { return Vec::new() };
    let mac = |at: usize| MacAddr([0, 1, 2, 3, 4, 5].map(|index: usize| header[at + index]));
    let macs = Macs { source: mac(6), destination: mac(0) };
    let mut packed = Vec::new();
    tunnel::wrap(&mut packed, macs, &Outer { pair: tunnel, ident: 0, dont_fragment: true }, packet);
    packed
}

/// The check's own port, else the server's, else the service's if it has but one; a service of many is asked at the first.
fn check_port(service: &Service, server: Option<u16>) -> u16 {
    let first = service.ports.first().map_or(0, |range| *range.start());
    service.check.port.or(server).unwrap_or(first)
}

const fn echo_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    }
}
