//! What engines reported at one moment, and the rates between two moments.

use std::collections::HashMap;
use std::time::Duration;

use crate::api::{ApiError, EventFilter, SessionRequest, SessionSort, calls};
use crate::cli::engines::{Engine, ask};
use crate::client::ClientError;
use crate::engine::view::{CountersView, EventView, FirewallView, LinkView, ServiceView, SessionView, StatusView};
use crate::ha::view::HaView;

/// An engine that does not answer within this time is shown as silent, and the others go on.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of events that are kept of each engine.
const EVENTS_MAX: usize = 500;
/// Number of sessions that each engine is asked for: more than anybody scrolls through, and little work for the engine.
const SESSIONS_MAX: usize = 1000;

/// One engine at one moment.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Name of the engine.
    pub engine: String,
    /// Time since `top` was started.
    pub at: Duration,
    /// `None` if it did not answer.
    pub status: Option<StatusView>,
    /// Its cluster; `None` if it stands alone.
    pub cluster: Option<HaView>,
    /// Its firewalls.
    pub firewalls: Vec<FirewallView>,
    /// Its services with their servers.
    pub services: Vec<ServiceView>,
    /// Its links.
    pub links: Vec<LinkView>,
    /// Its counters.
    pub counters: CountersView,
    /// Events since the previous sample.
    pub events: Vec<EventView>,
    /// Its busiest sessions; empty if they were not requested.
    pub sessions: Vec<SessionView>,
    /// Why it did not answer.
    pub problem: Option<String>,
}

impl Sample {
    /// Asks `engine` for everything, including events after number `after`; for sessions only if they are shown, those
    /// with the highest `sessions`.
    pub async fn take(engine: Engine, at: Duration, after: u64, sessions: Option<SessionSort>) -> Self {
        let name = engine.name.clone();
        let engine = Engine { client: engine.client.timeout(ANSWER_TIMEOUT), ..engine };
        match Self::ask(&engine, after, sessions).await {
            Ok(sample) => Self { engine: name, at, ..sample },
            Err(error) => {
                let problem = error.to_string().lines().next().map(str::to_owned);
                Self { engine: name, at, problem, ..Self::default() }
            }
        }
    }

    async fn ask(engine: &Engine, after: u64, sessions: Option<SessionSort>) -> Result<Self, ClientError> {
        let mut sample = Self {
            status: Some(ask(engine, &calls::Status {}).await?.1),
            cluster: Self::cluster(engine).await?,
            firewalls: ask(engine, &calls::Firewalls {}).await?.1,
            services: ask(engine, &calls::Services {}).await?.1,
            links: ask(engine, &calls::Links {}).await?.1,
            counters: ask(engine, &calls::Counters {}).await?.1,
            events: ask(engine, &EventFilter::after(after)).await?.1,
            ..Self::default()
        };
        if sessions.is_some() {
            let busiest = SessionRequest { sort: sessions, limit: Some(SESSIONS_MAX), ..SessionRequest::default() };
            sample.sessions = ask(engine, &busiest).await?.1.rows;
        }
        Ok(sample)
    }

    /// The engine's cluster. An engine whose thread of the role stands still answers everything else.
    async fn cluster(engine: &Engine) -> Result<Option<HaView>, ClientError> {
        match ask(engine, &calls::Ha {}).await {
            Ok((_, views)) => Ok(views.into_iter().next()),
            Err(ClientError::Engine(ApiError::Unavailable(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A counter; 0 for one that this engine does not know.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Received bytes of all links.
    fn received_bytes(&self) -> u64 {
        self.links.iter().map(|link| link.rx_bytes).sum()
    }
}

/// An engine that is watched: its last two samples, and the history.
#[derive(Debug, Default)]
pub struct Watched {
    /// The last sample.
    pub last: Sample,
    before: Option<Sample>,
    /// Packets received per second, oldest first, at most [`Watched::TREND_SAMPLES`].
    pub trend: Vec<f64>,
    /// The last events, oldest first.
    pub events: Vec<EventView>,
    sessions: HashMap<String, (u64, u64)>,
}

impl Watched {
    /// Number of samples in the trend.
    pub const TREND_SAMPLES: usize = 60;

    /// The engine, before its first sample.
    pub fn new(engine: &str) -> Self {
        Self { last: Sample { engine: engine.to_owned(), ..Sample::default() }, ..Self::default() }
    }

    /// The sequence number of the last event that is known.
    pub fn last_seq(&self) -> u64 {
        self.events.last().map_or(0, |event| event.seq)
    }

    /// Adds the next sample. If the engine did not answer, the previous values are kept, so that the screen does not go
    /// blank.
    pub fn push(&mut self, mut sample: Sample) {
        if sample.problem.is_some() {
            self.last.problem = sample.problem;
            return;
        }
        // An engine that was restarted counts from 0, and so do its events.
        if self.restarted(&sample) {
            *self = Self::new(&sample.engine);
        }
        self.events.append(&mut sample.events);
        let excess = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..excess);
        if !self.last.sessions.is_empty() {
            let sessions = self.last.sessions.iter();
            self.sessions = sessions.map(|one| (session_key(one), (one.packets, one.bytes))).collect();
        }
        let first = self.last.status.is_none();
        let before = std::mem::replace(&mut self.last, sample);
        self.before = (!first).then_some(before);
        if let Some(rate) = self.counter_rate("received") {
            let excess = (self.trend.len() + 1).saturating_sub(Self::TREND_SAMPLES);
            self.trend.drain(..excess);
            self.trend.push(rate);
        }
    }

    fn restarted(&self, sample: &Sample) -> bool {
        let uptime = |sample: &Sample| sample.status.as_ref().map_or(0, |status| status.uptime_ms);
        uptime(sample) < uptime(&self.last)
    }

    /// Growth of `of` per second between the last two samples; `None` if there was only one.
    fn rate(&self, of: impl Fn(&Sample) -> Option<u64>) -> Option<f64> {
        let before = self.before.as_ref()?;
        let seconds = self.last.at.checked_sub(before.at)?.as_secs_f64();
        let grown = of(&self.last)?.checked_sub(of(before)?)?;
        (seconds > 0.0).then(|| grown as f64 / seconds)
    }

    /// Growth of a counter per second.
    pub fn counter_rate(&self, name: &str) -> Option<f64> {
        self.rate(|sample| Some(sample.counter(name)))
    }

    /// Bits received per second.
    pub fn bit_rate(&self) -> Option<f64> {
        self.rate(|sample| Some(sample.received_bytes())).map(|bytes| bytes * 8.0)
    }

    /// Growth per second of a value of one firewall.
    pub fn firewall_rate(&self, group: &str, name: &str, of: fn(&FirewallView) -> u64) -> Option<f64> {
        self.rate(|sample| sample.firewalls.iter().find(|one| one.group == group && one.name == name).map(of))
    }

    /// Growth per second of a value of one server.
    pub fn server_rate(
        &self,
        service: &str,
        name: &str,
        of: fn(&crate::engine::view::ServerView) -> u64,
    ) -> Option<f64> {
        self.rate(|sample| {
            let service = sample.services.iter().find(|one| one.name == service)?;
            service.servers.iter().find(|one| one.name == name).map(of)
        })
    }

    /// Growth per second of a value of one link.
    pub fn link_rate(&self, name: &str, of: fn(&LinkView) -> u64) -> Option<f64> {
        self.rate(|sample| sample.links.iter().find(|one| one.name == name).map(of))
    }

    /// Packets and bits per second of one session, as the engine measured them, else since the previous sample; `None`
    /// if it was not listed then.
    pub fn session_rates(&self, session: &SessionView) -> Option<(f64, f64)> {
        if let (Some(packets), Some(bits)) = (session.packets_per_second, session.bits_per_second) {
            return Some((packets as f64, bits as f64));
        }
        let (packets, bytes) = self.sessions.get(&session_key(session))?;
        let seconds = self.last.at.checked_sub(self.before.as_ref()?.at)?.as_secs_f64();
        let per_second = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds;
        (seconds > 0.0).then(|| (per_second(session.packets, *packets), per_second(session.bytes, *bytes) * 8.0))
    }
}

/// A key that identifies a session within its engine.
pub fn session_key(session: &SessionView) -> String {
    let identifier = session.identifier.map(|identifier| identifier.to_string()).unwrap_or_default();
    format!("{} {} {} {identifier}", session.protocol, session.source, session.destination)
}
