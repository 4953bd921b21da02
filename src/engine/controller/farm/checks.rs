//! The checks of real servers: when they begin, which packets come back, and what follows.
//!
//! How a check sends and ends is in `exchange`, what comes back for it in `answers`. However a check of the engine's
//! own ends, its result passes through `apply_check_result` in `results`.

mod adopt;
mod answers;
mod describe;
mod exchange;
mod excused;
mod persisted;
mod ports;
mod requested;
mod results;

use std::collections::BTreeMap;
use std::net::IpAddr;

use self::exchange::CheckNotStarted;
use self::ports::Ports;
use self::requested::Request;
use self::results::CheckEnd;
use super::super::agenda::Agenda;
use super::super::links::Links;
use super::super::outbox::Outbox;
use super::super::paths::Paths;
use super::Farm;
use super::observe::Suspicion;
use crate::config::{Config, Service, ServiceCheckKind};
use crate::health::history::{CheckHistory, Outages};
use crate::health::service_monitor::ServiceMonitor;
use crate::health::service_prober::ServerProber;
use crate::id::{LinkId, ServerId};
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::emit::AddressPair;

/// Time between the first checks of two servers where there are many: 2,000 checks begin each second.
const START_GAP: Duration = Duration::from_micros(500);

/// What checks have found out about a server in one address family.
#[derive(Debug, Clone)]
pub(in super::super) struct ServerCheck {
    pub(in super::super) server: ServerId,
    pub(in super::super) family: Family,
    pub(super) monitor: ServiceMonitor,
    /// The last results of the engine's own checks, without those that operators asked for.
    pub(in super::super) history: CheckHistory,
    pub(super) outages: Outages,
    pub(super) suspicion: Suspicion,
}

/// The tuple that distinguishes the packets of a running check from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct CheckKey {
    local: IpAddr,
    protocol: u8,
    remote: IpAddr,
    /// The destination port; 0 for echoes.
    remote_port: u16,
    /// The source port, or the identifier of an echo.
    port: u16,
}

/// What an entry of the agenda is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The monitor with this index, whose next check begins.
    Monitor(usize),
    /// A running check, which has something to send or has timed out.
    Check(CheckKey),
}

/// A running check.
#[derive(Debug)]
struct RunningCheck {
    prober: ServerProber,
    link: LinkId,
    next_hop: IpAddr,
    /// The ends of the tunnel that its packets go through, if the service is in mode `tunnel`.
    tunnel: Option<AddressPair>,
    /// The address that is checked, where it is not the server's own: it must be configured on the server's loopback.
    vip: Option<IpAddr>,
    requester: Requester,
    /// The engine was late or lost frames meanwhile, so that silence says nothing about the server.
    excused: bool,
    /// What an ICMP error reported about the server, which may explain its silence.
    hint: Option<String>,
}

/// Who requested a check.
#[derive(Debug)]
enum Requester {
    /// The monitor with this index.
    Monitor(usize),
    /// An operator, who is shown every frame.
    Request(Box<Request>),
}

/// The running checks, and when the next ones are due.
#[derive(Debug)]
pub(super) struct Checks {
    running: BTreeMap<CheckKey, RunningCheck>,
    agenda: Agenda<Timer>,
    ports: Ports,
    /// How often a verdict has changed.
    verdict_changes: u64,
    /// No running check has a shorter timeout than this. Most calls are less late, and need not look at all checks.
    shortest_timeout: Duration,
}

/// A copy has no running checks, because their connections cannot be in two places.
impl Clone for Checks {
    fn clone(&self) -> Self {
        Self { running: BTreeMap::new(), agenda: self.agenda.clone(), ports: self.ports.clone(), ..*self }
    }
}

impl Checks {
    /// No checks are running. `random` is for ports and sequence numbers.
    pub(super) fn new(random: u64) -> Self {
        Self {
            running: BTreeMap::new(),
            agenda: Agenda::default(),
            ports: Ports::new(random),
            verdict_changes: 0,
            shortest_timeout: Duration::MAX,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.agenda.poll_timeout()
    }
}

/// All servers, without a verdict. The first checks begin at once, the next are spread over the interval.
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
        let mut outages = Outages::default();
        if check.kind == ServiceCheckKind::None {
            monitor.assume_up(now);
            outages.rise(now);
        }
        ServerCheck {
            server,
            family,
            monitor,
            history: CheckHistory::default(),
            outages,
            suspicion: Suspicion::default(),
        }
    });
    checks.collect()
}

impl Farm {
    /// Puts the next check of every server on the agenda.
    pub(super) fn schedule_checks(&mut self) {
        for index in 0..self.server_checks.len() {
            self.schedule_monitor(index);
        }
    }

    /// The checks of a server, IPv4 first.
    pub(super) fn checks_of(&self, id: ServerId) -> impl Iterator<Item = &ServerCheck> {
        // They are sorted by server.
        let first = self.server_checks.partition_point(|check| check.server < id);
        self.server_checks[first..].iter().take_while(move |check| check.server == id)
    }

    /// Begins the checks that are due, and continues those that are running.
    pub(super) fn run_checks(&mut self, links: &mut Links, paths: &Paths, now: Instant, out: &mut Outbox) {
        while let Some(timer) = self.checks.agenda.take_due(now) {
            match timer {
                Timer::Monitor(index) => self.monitor_due(index, links, paths, now, out),
                Timer::Check(key) => {
                    self.with_check(key, links, now, |prober| prober.handle_timeout(now), out);
                }
            }
        }
    }

    fn monitor_due(&mut self, index: usize, links: &mut Links, paths: &Paths, now: Instant, out: &mut Outbox) {
        let changed = self.server_checks[index].monitor.handle_timeout(now);
        self.verdict_changed(index, changed, now, out);
        if self.server_checks[index].monitor.is_due(now) {
            let (server, family) = (self.server_checks[index].server, self.server_checks[index].family);
            self.server_checks[index].monitor.begin(now);
            match self.launch_check((server, family), Requester::Monitor(index), links, paths, now, out) {
                Ok(()) => {}
                Err(CheckNotStarted::Busy) => self.server_checks[index].monitor.postpone(now),
                Err(CheckNotStarted::LinkDown(why)) => {
                    self.apply_check_result(index, CheckEnd::NotSent(why), None, now, out)
                }
                Err(CheckNotStarted::NoRoute(why)) => {
                    self.apply_check_result(index, CheckEnd::Failed(why), None, now, out)
                }
            }
        }
        self.schedule_monitor(index);
    }

    /// A link came up. Servers that were not checked while it was down are checked at once.
    pub(super) fn resume_checks(&mut self, now: Instant) {
        let cut = (0..self.server_checks.len()).filter(|index| self.server_checks[*index].monitor.is_link_down());
        for (index, place) in cut.collect::<Vec<_>>().into_iter().zip(0..) {
            self.server_checks[index].monitor.check_by(now + START_GAP * place);
            self.schedule_monitor(index);
        }
    }

    pub(super) fn schedule_monitor(&mut self, index: usize) {
        let check = &self.server_checks[index];
        let time =
            (self.service_of(check.server).check.kind != ServiceCheckKind::None).then(|| check.monitor.poll_timeout());
        self.checks.agenda.set(Timer::Monitor(index), time);
    }

    fn service_of(&self, server: ServerId) -> &Service {
        &self.config.services[self.config.servers[server.index()].service.index()]
    }
}
