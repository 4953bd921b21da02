//! The history of every flow, and the legal causes of its troubles (`docs/pinning.md`, section 6).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::DropReason;
use crate::sim::farm::server_name;
use crate::sim::firewall::SimFirewallKind;
use crate::sim::firewall::conntrack::Refusal;
use crate::sim::host::FlowRef;
use crate::sim::packet::{Tuple, protocol};
use crate::sim::sandwich::{SandwichPlan, firewall_name};
use crate::sim::side::Side;
use crate::time::{Duration, Instant};

/// One entry of a flow's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When it happened.
    pub at: Instant,
    /// The TCP flags of the packet, for TCP.
    pub flags: Option<u8>,
    /// What happened.
    pub what: FlowEvent,
}

/// What happened to a packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowEvent {
    /// An engine sent it to this firewall.
    ToFirewall(Side, usize),
    /// An engine sent it to a host on its side.
    ToHost(Side),
    /// A firewall passed it.
    Passed(usize),
    /// A firewall dropped it.
    Refused(usize, Refusal),
    /// It was lost or damaged on a cable, or an engine could not receive it.
    Lost,
    /// An engine dropped it.
    Dropped(Side, DropReason),
}

/// The history of a flow.
#[derive(Debug, Clone)]
pub struct FlowHistory {
    /// The flow.
    pub flow: FlowRef,
    /// The flow as its opener's packets show it.
    pub tuple: Tuple,
    /// When it was opened.
    pub started: Instant,
    /// Firewalls to which an engine sent it.
    pub firewalls: BTreeSet<usize>,
    /// For each engine, the firewall to which it sent the flow last, and how often that changed.
    pub via: [Option<(usize, u32)>; 2],
    /// Whether a packet of it was lost or damaged on a cable.
    pub lost: bool,
    /// The service to which it was opened.
    pub service: Option<usize>,
    /// Servers to which an engine sent it.
    pub servers: BTreeSet<usize>,
    /// Whether a full table refused it, which is counted and reported.
    pub refused: bool,
    /// The last entries.
    pub entries: VecDeque<HistoryEntry>,
}

/// A period in which a firewall was disturbed, in truth or in an engine's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallDisturbance {
    /// The firewall.
    pub firewall: usize,
    /// When it began.
    pub from: Instant,
    /// When it ended; `None` while it lasts.
    pub until: Option<Instant>,
    /// What was wrong.
    pub why: String,
}

/// A period in which a server was disturbed, in truth or in an engine's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerDisturbance {
    /// The server.
    pub server: usize,
    /// When it began.
    pub from: Instant,
    /// When it ended; `None` while it lasts.
    pub until: Option<Instant>,
    /// What was wrong.
    pub why: String,
}

/// A restart of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// The engine.
    pub side: Side,
    /// When it was killed.
    pub at: Instant,
}

impl FlowHistory {
    const ENTRIES_MAX: usize = 40;

    /// The history of a flow that is opened.
    pub fn new(flow: FlowRef, tuple: Tuple, started: Instant) -> Self {
        let (firewalls, steps) = (BTreeSet::new(), VecDeque::new());
        let (service, servers, refused) = (None, BTreeSet::new(), false);
        Self { flow, tuple, started, firewalls, via: [None; 2], lost: false, service, servers, refused, entries: steps }
    }

    /// Adds an entry; returns true if it is a packet to a firewall to which no engine has sent the flow before.
    pub fn record(&mut self, entry: HistoryEntry) -> bool {
        if self.entries.len() >= Self::ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        match entry.what {
            FlowEvent::ToFirewall(side, firewall) => {
                let via = &mut self.via[side as usize];
                *via = Some(match *via {
                    Some((last, moves)) if last != firewall => (firewall, moves + 1),
                    Some(same) => same,
                    None => (firewall, 0),
                });
                self.firewalls.insert(firewall)
            }
            FlowEvent::Lost => {
                self.lost = true;
                false
            }
            FlowEvent::ToHost(_) | FlowEvent::Passed(_) | FlowEvent::Refused(..) | FlowEvent::Dropped(..) => false,
        }
    }

    /// How often the flow changed its firewall, at both engines.
    pub fn moves(&self) -> u32 {
        self.via.iter().flatten().map(|(_, moves)| moves).sum()
    }

    /// The history as lines of text.
    pub fn lines(&self) -> Vec<String> {
        let line = |entry: &HistoryEntry| {
            let flags = entry.flags.map(flag_names).unwrap_or_default();
            let what = match entry.what {
                FlowEvent::ToFirewall(side, firewall) => format!("{} -> {}", side.name(), firewall_name(firewall)),
                FlowEvent::ToHost(side) => format!("{} -> host", side.name()),
                FlowEvent::Passed(firewall) => format!("{} passed", firewall_name(firewall)),
                FlowEvent::Refused(firewall, refusal) => format!("{} REFUSED {refusal:?}", firewall_name(firewall)),
                FlowEvent::Lost => "lost".to_owned(),
                FlowEvent::Dropped(side, reason) => format!("{} {}", side.name(), reason.name()),
            };
            format!("{:9.3} s  {what} {flags}", entry.at.as_nanos() as f64 / 1e9)
        };
        self.entries.iter().map(line).collect()
    }
}

fn flag_names(flags: u8) -> String {
    let names = [(0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST")];
    names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join("/")
}

/// All legal causes of a flow's troubles.
#[derive(Debug, Default)]
pub struct LegalCauses {
    /// Disturbances of firewalls.
    pub disturbances: Vec<FirewallDisturbance>,
    /// Disturbances of servers.
    pub servers: Vec<ServerDisturbance>,
    /// Restarts of engines.
    pub restarts: Vec<Restart>,
    ongoing: BTreeMap<(usize, String), usize>,
    ongoing_servers: BTreeMap<(usize, String), usize>,
}

impl LegalCauses {
    /// After a disturbance ended, packets may be on their way for this long.
    const GRACE: Duration = Duration::from_millis(100);
    /// After a restart, an engine needs this long to find out which firewalls are up.
    const START_TIME: Duration = Duration::from_millis(1500);

    /// Begins a disturbance of a firewall, unless the same one lasts already.
    pub fn begin(&mut self, firewall: usize, why: &str, at: Instant) {
        let key = (firewall, why.to_owned());
        if !self.ongoing.contains_key(&key) {
            self.ongoing.insert(key, self.disturbances.len());
            self.disturbances.push(FirewallDisturbance { firewall, from: at, until: None, why: why.to_owned() });
        }
    }

    /// Ends a disturbance of a firewall.
    pub fn end(&mut self, firewall: usize, why: &str, at: Instant) {
        if let Some(number) = self.ongoing.remove(&(firewall, why.to_owned())) {
            self.disturbances[number].until = Some(at);
        }
    }

    /// Begins a disturbance of a server, unless the same one lasts already.
    pub fn begin_server(&mut self, server: usize, why: &str, at: Instant) {
        let key = (server, why.to_owned());
        if !self.ongoing_servers.contains_key(&key) {
            self.ongoing_servers.insert(key, self.servers.len());
            self.servers.push(ServerDisturbance { server, from: at, until: None, why: why.to_owned() });
        }
    }

    /// Ends a disturbance of a server.
    pub fn end_server(&mut self, server: usize, why: &str, at: Instant) {
        if let Some(number) = self.ongoing_servers.remove(&(server, why.to_owned())) {
            self.servers[number].until = Some(at);
        }
    }

    /// Whether a server is or was recently disturbed in truth, and not only in an engine's view.
    pub fn is_disturbed(&self, server: usize, now: Instant) -> bool {
        self.servers.iter().any(|trouble| {
            let recent = trouble.until.is_none_or(|until| now.since(until) < Self::START_TIME);
            trouble.server == server && recent && !trouble.why.starts_with("not up")
        })
    }

    /// The legal cause of troubles of a flow to a service: one of its servers (any server, if it got none) was
    /// disturbed during its life, a table had no room for it, or the engine of the service forgot it.
    fn service_cause(&self, story: &FlowHistory, plan: &SandwichPlan) -> Option<String> {
        let service = story.service?;
        let concerns = |server: &usize| story.servers.is_empty() || story.servers.contains(server);
        let touched = self.servers.iter().find(|trouble| {
            concerns(&trouble.server) && trouble.until.is_none_or(|until| until + Self::GRACE >= story.started)
        });
        if let Some(trouble) = touched {
            return Some(format!("{} {}", server_name(trouble.server), trouble.why));
        }
        if story.refused {
            return Some("a table was full".to_owned());
        }
        let side = plan.farm.services[service].side;
        let restart = self.restarts.iter().find(|restart| restart.side == side && restart.at >= story.started)?;
        Some(format!("{} restarted", restart.side.name()))
    }

    /// The legal cause of troubles of a flow: one of its firewalls was disturbed during its life, or an engine forgot
    /// it while only its memory could identify the firewall.
    pub fn legal_cause(&self, story: &FlowHistory, plan: &SandwichPlan) -> Option<String> {
        if let Some(excuse) = self.disturbance_cause(story) {
            return Some(excuse);
        }
        if let Some(excuse) = self.service_cause(story, plan) {
            return Some(excuse);
        }
        self.restart_cause(story, plan)
    }

    /// The legal cause for a firewall to see only a part of the flow.
    ///
    /// A translating service behind the firewalls allows none, whatever happens to its servers and its engine, because
    /// packets without a session are refused before they reach a firewall. In direct-return mode, a server may go on
    /// sending to a client whose connection was reset, which no node on the path can know. And for a service before the
    /// firewalls, `reselect` shows them a connection from its middle.
    pub fn firewall_cause(&self, story: &FlowHistory, plan: &SandwichPlan) -> Option<String> {
        let service = story.service.map(|service| &plan.farm.services[service]);
        let is_shielded = service.is_some_and(|service| !service.is_direct() && service.side == Side::Inner);
        if !is_shielded || story.tuple.protocol != protocol::TCP {
            return self.legal_cause(story, plan);
        }
        self.disturbance_cause(story).or_else(|| self.restart_cause(story, plan))
    }

    /// A disturbance of one of its firewalls during its life.
    fn disturbance_cause(&self, story: &FlowHistory) -> Option<String> {
        let trouble = self.disturbances.iter().find(|trouble| {
            story.firewalls.contains(&trouble.firewall)
                && trouble.until.is_none_or(|until| until + Self::GRACE >= story.started)
        })?;
        Some(format!("{} {}", firewall_name(trouble.firewall), trouble.why))
    }

    /// A restart of an engine that forgot the flow while only its memory could identify the firewall.
    fn restart_cause(&self, story: &FlowHistory, plan: &SandwichPlan) -> Option<String> {
        let restart = self.restarts.iter().find(|restart| restart.at >= story.started)?;
        let learned = plan.kind == SimFirewallKind::Nat || plan.seeds[0] != plan.seeds[1] || plan.unknown != [None; 2];
        let off_hash = self.disturbances.iter().any(|trouble| {
            trouble.from <= restart.at + Self::START_TIME && trouble.until.is_none_or(|until| until >= story.started)
        });
        (learned || off_hash).then(|| format!("{} restarted", restart.side.name()))
    }
}
