//! What every flow went through, and what may be held against nobody: the legal causes of PINNING.md section 6.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::DropReason;
use crate::sim::farm::server_name;
use crate::sim::firewall::Kind;
use crate::sim::firewall::conntrack::Refusal;
use crate::sim::host::FlowRef;
use crate::sim::packet::{Tuple, protocol};
use crate::sim::sandwich::{Plan, Side, firewall_name};
use crate::time::{Duration, Instant};

/// One line of a flow's story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// TCP flags, if it is TCP.
    pub flags: Option<u8>,
    /// What happened.
    pub what: Step,
}

/// What happened to a packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An engine sent it to a firewall.
    ToFirewall(Side, usize),
    /// An engine sent it to the host on its side.
    ToHost(Side),
    /// A firewall let it pass.
    Passed(usize),
    /// A firewall refused it.
    Refused(usize, Refusal),
    /// A wire lost or damaged it, or an engine did not hear it.
    Lost,
    /// An engine dropped it.
    Dropped(Side, DropReason),
}

/// A flow's story.
#[derive(Debug, Clone)]
pub struct Story {
    /// The flow.
    pub flow: FlowRef,
    /// As its opener shows it.
    pub tuple: Tuple,
    /// When it was opened.
    pub started: Instant,
    /// Firewalls that an engine sent it to.
    pub firewalls: BTreeSet<usize>,
    /// The firewall each engine sent it to last, and how often that changed.
    pub via: [Option<(usize, u32)>; 2],
    /// A packet of it was lost or damaged on a wire.
    pub lost: bool,
    /// The service that it asks.
    pub service: Option<usize>,
    /// Servers that an engine sent it to.
    pub servers: BTreeSet<usize>,
    /// A bounded table had no room for it, which is counted and told.
    pub refused: bool,
    /// The last steps.
    pub steps: VecDeque<Entry>,
}

/// A time during which something was wrong with a firewall, in truth or in an engine's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbance {
    /// Which firewall.
    pub firewall: usize,
    /// Since when.
    pub from: Instant,
    /// Until when; `None`: still.
    pub until: Option<Instant>,
    /// What.
    pub why: String,
}

/// A time during which something was wrong with a server, in truth or in an engine's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTrouble {
    /// Which server.
    pub server: usize,
    /// Since when.
    pub from: Instant,
    /// Until when; `None`: still.
    pub until: Option<Instant>,
    /// What.
    pub why: String,
}

/// A restart of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Which.
    pub side: Side,
    /// When it died.
    pub at: Instant,
}

impl Story {
    const STEPS_MAX: usize = 40;

    /// A flow that begins.
    pub fn new(flow: FlowRef, tuple: Tuple, started: Instant) -> Self {
        let (firewalls, steps) = (BTreeSet::new(), VecDeque::new());
        let (service, servers, refused) = (None, BTreeSet::new(), false);
        Self { flow, tuple, started, firewalls, via: [None; 2], lost: false, service, servers, refused, steps }
    }

    /// Adds a line; answers true if the engine sent the flow to a firewall that it did not send it to before.
    pub fn note(&mut self, entry: Entry) -> bool {
        if self.steps.len() >= Self::STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back(entry);
        match entry.what {
            Step::ToFirewall(side, firewall) => {
                let via = &mut self.via[side as usize];
                *via = Some(match *via {
                    Some((last, moves)) if last != firewall => (firewall, moves + 1),
                    Some(same) => same,
                    None => (firewall, 0),
                });
                self.firewalls.insert(firewall)
            }
            Step::Lost => {
                self.lost = true;
                false
            }
            Step::ToHost(_) | Step::Passed(_) | Step::Refused(..) | Step::Dropped(..) => false,
        }
    }

    /// Changes of firewall at both engines.
    pub fn moves(&self) -> u32 {
        self.via.iter().flatten().map(|(_, moves)| moves).sum()
    }

    /// The story as lines.
    pub fn lines(&self) -> Vec<String> {
        let line = |entry: &Entry| {
            let flags = entry.flags.map(flag_names).unwrap_or_default();
            let what = match entry.what {
                Step::ToFirewall(side, firewall) => format!("{} -> {}", side.name(), firewall_name(firewall)),
                Step::ToHost(side) => format!("{} -> host", side.name()),
                Step::Passed(firewall) => format!("{} passed", firewall_name(firewall)),
                Step::Refused(firewall, refusal) => format!("{} REFUSED {refusal:?}", firewall_name(firewall)),
                Step::Lost => "lost".to_owned(),
                Step::Dropped(side, reason) => format!("{} {}", side.name(), reason.name()),
            };
            format!("{:9.3} s  {what} {flags}", entry.at.as_nanos() as f64 / 1e9)
        };
        self.steps.iter().map(line).collect()
    }
}

fn flag_names(flags: u8) -> String {
    let names = [(0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST")];
    names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join("/")
}

/// All that may excuse a flow.
#[derive(Debug, Default)]
pub struct Causes {
    /// Troubles of firewalls.
    pub disturbances: Vec<Disturbance>,
    /// Troubles of servers.
    pub servers: Vec<ServerTrouble>,
    /// Restarts of engines.
    pub restarts: Vec<Restart>,
    open: BTreeMap<(usize, String), usize>,
    open_servers: BTreeMap<(usize, String), usize>,
}

impl Causes {
    /// Packets that were on their way when a trouble ended.
    const GRACE: Duration = Duration::from_millis(100);
    /// After a restart an engine learns which firewalls are up.
    const START: Duration = Duration::from_millis(1500);

    /// A trouble begins (nothing, if the same one is there).
    pub fn begin(&mut self, firewall: usize, why: &str, at: Instant) {
        let key = (firewall, why.to_owned());
        if !self.open.contains_key(&key) {
            self.open.insert(key, self.disturbances.len());
            self.disturbances.push(Disturbance { firewall, from: at, until: None, why: why.to_owned() });
        }
    }

    /// A trouble ends.
    pub fn end(&mut self, firewall: usize, why: &str, at: Instant) {
        if let Some(number) = self.open.remove(&(firewall, why.to_owned())) {
            self.disturbances[number].until = Some(at);
        }
    }

    /// A trouble of a server begins (nothing, if the same one is there).
    pub fn begin_server(&mut self, server: usize, why: &str, at: Instant) {
        let key = (server, why.to_owned());
        if !self.open_servers.contains_key(&key) {
            self.open_servers.insert(key, self.servers.len());
            self.servers.push(ServerTrouble { server, from: at, until: None, why: why.to_owned() });
        }
    }

    /// A trouble of a server ends.
    pub fn end_server(&mut self, server: usize, why: &str, at: Instant) {
        if let Some(number) = self.open_servers.remove(&(server, why.to_owned())) {
            self.servers[number].until = Some(at);
        }
    }

    /// True if something is or was just wrong with a server in truth, not only in an engine's view.
    pub fn is_troubled(&self, server: usize, now: Instant) -> bool {
        self.servers.iter().any(|trouble| {
            let recent = trouble.until.is_none_or(|until| now.since(until) < Self::START);
            trouble.server == server && recent && !trouble.why.starts_with("not up")
        })
    }

    /// Why a flow that asks a service may fare badly: one of its servers was in trouble during its life (any server, if it
    /// never got one), a table had no room for it, or the engine of the service forgot it.
    fn excuse_by_service(&self, story: &Story, plan: &Plan) -> Option<String> {
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

    /// Why what happens to this flow may be held against nobody: one of its firewalls was in trouble during its life, or an
    /// engine forgot it while only memory could know its firewall.
    pub fn excuse(&self, story: &Story, plan: &Plan) -> Option<String> {
        if let Some(excuse) = self.excuse_by_trouble(story) {
            return Some(excuse);
        }
        if let Some(excuse) = self.excuse_by_service(story, plan) {
            return Some(excuse);
        }
        self.excuse_by_restart(story, plan)
    }

    /// Why a firewall may see half of this flow. A service behind the firewalls whose sessions are translated shows none,
    /// whatever its servers and its engine do: what belongs to no session is refused before it gets there. A server that
    /// answers from the virtual address itself may go on talking to a client that was told of the end; nobody on the way
    /// knows better. And where the service stands before the firewalls, `reselect` shows them a connection from its middle.
    pub fn excuse_for_firewall(&self, story: &Story, plan: &Plan) -> Option<String> {
        let service = story.service.map(|service| &plan.farm.services[service]);
        let is_shielded = service.is_some_and(|service| !service.is_direct() && service.side == Side::Inner);
        if !is_shielded || story.tuple.protocol != protocol::TCP {
            return self.excuse(story, plan);
        }
        self.excuse_by_trouble(story).or_else(|| self.excuse_by_restart(story, plan))
    }

    /// One of its firewalls was in trouble during its life.
    fn excuse_by_trouble(&self, story: &Story) -> Option<String> {
        let trouble = self.disturbances.iter().find(|trouble| {
            story.firewalls.contains(&trouble.firewall)
                && trouble.until.is_none_or(|until| until + Self::GRACE >= story.started)
        })?;
        Some(format!("{} {}", firewall_name(trouble.firewall), trouble.why))
    }

    /// An engine forgot it while only memory could know its firewall.
    fn excuse_by_restart(&self, story: &Story, plan: &Plan) -> Option<String> {
        let restart = self.restarts.iter().find(|restart| restart.at >= story.started)?;
        let learned = plan.kind == Kind::Nat || plan.seeds[0] != plan.seeds[1] || plan.unknown != [None; 2];
        let off_hash = self.disturbances.iter().any(|trouble| {
            trouble.from <= restart.at + Self::START && trouble.until.is_none_or(|until| until >= story.started)
        });
        (learned || off_hash).then(|| format!("{} restarted", restart.side.name()))
    }
}
