//! Answers the API's requests to a running engine: from what its threads share, or on the control thread. Decides
//! nothing.

mod cluster;
mod kill;
mod upgrade;

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::control::{Commands, Control};
use super::ha_handle::HaHandle;
use super::history::History;
use super::punts::PuntDepth;
use super::reload::{ConfigSource, ReloadRequest, Reloader};
use super::sessions::{self, EarlierTraffic, Walk};
use super::shared::Shared;
use super::upgrade::Predecessor;
use super::{capture_pump, counters, logging, overrides, process};
use crate::api::metrics::Process;
use crate::api::names::Member;
use crate::api::{
    Answer, ApiError, Backend, CaptureRequest, Done, Download, LinkOrFirewall, Request, SessionPage, SessionRequest,
    SessionSort, TalkerRequest, calls, names,
};
use crate::config::{self, is_removed};
use crate::engine::controller::Order;
use crate::engine::explain::explain;
use crate::engine::view::{
    AlarmKind, AlarmView, CheckResultView, ConfigView, CountersView, ExchangeView, ExplainView, LinkView, NeighborView,
    OperState, OverrideView, ReloadView, StatusView, TalkerView,
};
use crate::engine::{Controller, Counters, SessionMatcher, Snapshot};
use crate::id::LinkId;
use crate::time::{Duration, Instant};

use cluster::Cluster;

/// How long a probe or ping waits for its answer.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(3);
/// Number of requests for rates that are served at once; each takes memory for every matching session.
const RATE_REQUESTS_MAX: usize = 4;
/// The time over which rates are measured.
const RATE_INTERVAL: Duration = Duration::from_millis(500);

/// Answers the API's requests to one engine.
#[derive(Debug)]
pub(super) struct EngineBackend {
    pub(super) shared: Arc<Shared>,
    commands: Commands,
    pub(super) punts: PuntDepth,
    reloader: Arc<Reloader>,
    history: Arc<History>,
    /// The thread of the role machine; `None` for an engine that stands alone.
    ha: Option<HaHandle>,
    /// Hands the engine over to another program.
    upgrades: Arc<Predecessor>,
    /// Limits how many orders to kill sessions are carried out at once.
    kills: Arc<Semaphore>,
    /// Limits how many requests for rates are served at once.
    rates: Semaphore,
}

impl Backend for EngineBackend {
    fn engine(&self) -> &str {
        &self.shared.engine
    }

    fn process(&self) -> Option<Process> {
        process::measure()
    }

    async fn ask(self: Arc<Self>, request: Request) -> Result<Answer, ApiError> {
        match request {
            Request::Status(_) => self.status().await.map(Answer::Status),
            Request::Health(_) => self.health().await.map(Answer::Health),
            Request::Links(_) => Ok(Answer::Links(self.link_views(&self.shared.counters()))),
            Request::Neighbors(_) => {
                self.on_control(|control| control.controller.neighbors(control.now())).await.map(Answer::Neighbors)
            }
            Request::Firewalls(_) => {
                let counters = self.shared.counters();
                let ask = move |control: &mut Control| control.controller.firewalls(&counters, control.now());
                self.on_control(ask).await.map(Answer::Firewalls)
            }
            Request::Peers(_) => {
                self.on_control(|control| control.controller.peers(control.now())).await.map(Answer::Peers)
            }
            Request::Services(_) => {
                let counters = self.shared.counters();
                let ask = move |control: &mut Control| control.controller.services(&counters, control.now());
                self.on_control(ask).await.map(Answer::Services)
            }
            Request::Ha(_) => self.ha_views().await.map(Answer::Ha),
            Request::ExplainHa(_) => self.explain_ha().await.map(Answer::ExplainHa),
            Request::HaFailover(call) => self.fail_over(call).await.map(Answer::HaFailover),
            Request::HaMaintenance(call) => self.set_maintenance(call).await.map(Answer::HaMaintenance),
            Request::HaResync(call) => self.resync(call).await.map(Answer::HaResync),
            Request::Checks(call) => self.checks(call).await.map(Answer::Checks),
            Request::Sessions(call) => self.sessions(call).await.map(Answer::Sessions),
            Request::Talkers(call) => self.talkers(call).await.map(Answer::Talkers),
            Request::Kill(call) => self.kill(call).await.map(Answer::Kill),
            Request::Counters(_) => self.counters().await.map(Answer::Counters),
            Request::Metrics(_) => self.metrics().await.map(Answer::Metrics),
            Request::Events(filter) => {
                let now = self.shared.clock.wall_time();
                self.shared.events().select(&filter, now).map(Answer::Events)
            }
            Request::Config(call) => Ok(Answer::Config(self.config(call.all))),
            Request::Configs(_) => self.reloader.configs(&self.shared.engine).await.map(Answer::Configs),
            Request::Reload(call) => {
                let confirm = call.confirm();
                let source = call.config.map_or(ConfigSource::OwnFile, ConfigSource::File);
                self.reload(source, call.by, confirm).await.map(Answer::Reload)
            }
            Request::Rollback(calls::Rollback { back, by }) => {
                self.reload(ConfigSource::StepsBack(back.unwrap_or(1)), by, None).await.map(Answer::Rollback)
            }
            Request::Upgrade(call) => self.upgrade(&call).map(Answer::Upgrade),
            Request::Confirm(call) => {
                let by = call.by.unwrap_or_default();
                self.reloader.confirm(&self.shared.engine, &by).await.map(Done::from).map(Answer::Confirm)
            }
            Request::Plan(calls::Plan { config, back }) => {
                let origin = back
                    .map_or_else(|| config.map_or(ConfigSource::OwnFile, ConfigSource::File), ConfigSource::StepsBack);
                let mut plan = self.reloader.plan(&self.shared.engine, &origin).await?;
                self.cluster().await.name_active_in_plan(&mut plan);
                Ok(Answer::Plan(Box::new(plan)))
            }
            Request::Explain(call) => self.explain(call).await.map(Answer::Explain),
            Request::SetFirewall(calls::SetFirewall { group, name, admin, reason, by, force }) => {
                let order = self.operator_order(reason, by);
                let change = self.apply_override(move |controller, now| {
                    overrides::firewall(controller, group.as_deref(), &name, admin, &order, force, now)
                });
                change.await.map(Answer::SetFirewall)
            }
            Request::SetServer(call) => {
                let change = call.change();
                let calls::SetServer { service, name, admin: _, weight: _, reason, by, force } = call;
                let order = self.operator_order(reason, by);
                let change = self.apply_override(move |controller, now| {
                    overrides::server(controller, &service, &name, change, &order, force, now)
                });
                change.await.map(Answer::SetServer)
            }
            Request::SetService(calls::SetService { name, admin, reason, by }) => {
                let order = self.operator_order(reason, by);
                let change = self
                    .apply_override(move |controller, now| overrides::service(controller, &name, admin, &order, now));
                change.await.map(Answer::SetService)
            }
            Request::Probe(call) => self.probe(&call.subject).await.map(Answer::Probe),
            Request::Ping(call) => self.ping(call).await.map(Answer::Ping),
        }
    }

    fn capture(&self, request: CaptureRequest) -> Result<Download, ApiError> {
        capture_pump::start(&self.shared, request)
    }

    fn end_capture(&self, id: &str) -> Result<(), ApiError> {
        let unknown = || ApiError::NotFound(format!("engine {} has no capture {id:?}", self.shared.engine));
        self.shared.captures.end(id).then_some(()).ok_or_else(unknown)
    }
}

impl EngineBackend {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: Commands,
        punts: PuntDepth,
        reloader: Arc<Reloader>,
        history: Arc<History>,
        ha: Option<HaHandle>,
        upgrades: Arc<Predecessor>,
    ) -> Self {
        Self {
            upgrades,
            shared,
            commands,
            punts,
            reloader,
            history,
            ha,
            kills: kill::kill_slots(),
            rates: Semaphore::new(RATE_REQUESTS_MAX),
        }
    }

    async fn reload(
        &self,
        source: ConfigSource,
        by: Option<String>,
        confirm: Option<Duration>,
    ) -> Result<ReloadView, ApiError> {
        let asked = ReloadRequest { source, by: by.unwrap_or_default(), confirm };
        Arc::clone(&self.reloader).reload(self.shared.engine.clone(), asked).await
    }

    /// Runs a function on the control thread and returns its result.
    pub(super) async fn on_control<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Control) -> R + Send + 'static,
    ) -> Result<R, ApiError> {
        let gone = || ApiError::Unavailable(format!("engine {} is stopping", self.shared.engine));
        let (answer, answered) = oneshot::channel();
        let command = Box::new(move |control: &mut Control| {
            let _ = answer.send(ask(control));
        });
        self.commands.send(command).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    fn config(&self, all: bool) -> ConfigView {
        let text = self.shared.config_text().text;
        if !all {
            return ConfigView { text: config::hide_secrets(&text), settings: None };
        }
        let config = self.shared.config();
        let settings = Some(config::settings(&config, &text));
        ConfigView { text: config::running_config(&config, &text), settings }
    }

    async fn status(&self) -> Result<StatusView, ApiError> {
        let (alarms, overrides) = self
            .on_control(|control| (control.controller.alarms(control.now()), control.controller.overrides()))
            .await?;
        Ok(self.status_view(alarms, overrides, &self.cluster().await))
    }

    pub(super) fn status_view(
        &self,
        mut alarms: Vec<AlarmView>,
        overrides: Vec<OverrideView>,
        cluster: &Cluster,
    ) -> StatusView {
        let shared = &self.shared;
        let uptime_ms = u64::try_from(shared.clock.now().since(shared.started).as_millis()).unwrap_or(u64::MAX);
        alarms.extend(configuration_alarms(shared, &self.history));
        alarms.extend(cluster.alarms(&shared.engine));
        if shared.lacks_priority() {
            alarms.push(AlarmView {
                kind: AlarmKind::OrdinaryPriority.into(),
                subject: shared.engine.clone(),
                reason: "packets and probes wait for other work of the machine: run as root, or give the program CAP_SYS_NICE"
                    .to_owned(),
                since_ms: uptime_ms,
            });
        }
        StatusView {
            name: shared.engine.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms,
            epoch: self.snapshot().epoch,
            config_digest: shared.config().digest.clone(),
            workers: shared.cells.len(),
            sessions: shared.sessions.len(),
            capacity: shared.sessions.capacity(),
            role: cluster.role(),
            alarms,
            overrides,
        }
    }

    pub(super) fn link_views(&self, counters: &Counters) -> Vec<LinkView> {
        let shared = &self.shared;
        let snapshot = self.snapshot();
        let view = |(index, link): (usize, &crate::engine::snapshot::Link)| {
            let id = LinkId::from(index);
            let counted = counters.links.get(index).copied().unwrap_or_default();
            let (made_packets, made_bytes) = shared.socket_counters.sent_on(id);
            let device = shared.device_status(link.device);
            LinkView {
                engine: shared.engine.clone(),
                name: link.name.clone(),
                device: device.name.unwrap_or_else(|| snapshot.devices[link.device.index()].name.clone()),
                vlan: link.vlan,
                state: OperState::from(link.up).into(),
                reason: device.reason.filter(|_| !link.up).map(str::to_owned),
                mac: link.mac.to_string(),
                mtu: link.mtu,
                addresses: link.addresses.iter().map(ToString::to_string).collect(),
                rx_packets: counted.rx_packets,
                rx_bytes: counted.rx_bytes,
                rx_dropped: counted.rx_dropped,
                io: shared.config().engine.io.into(),
                io_mode: device.io_mode,
                ring_dropped: shared.socket_counters.ring_dropped_on(link.device),
                tx_packets: counted.tx_packets + made_packets,
                tx_bytes: counted.tx_bytes + made_bytes,
                tx_errors: shared.socket_counters.failed_on(id),
            }
        };
        let present = snapshot.links.iter().enumerate().filter(|(_, link)| !is_removed(&link.name));
        present.map(view).collect()
    }

    async fn sessions(&self, question: SessionRequest) -> Result<SessionPage, ApiError> {
        let selection = sessions::select(&question.filter, &self.snapshot())?;
        match question.sort {
            None => self.walk(move |walk| sessions::page(walk, &selection, &question)).await,
            Some(sort) => {
                let (selection, earlier) = self.earlier_traffic(selection, sort).await?;
                self.walk(move |walk| sessions::sorted(walk, &selection, sort, question.limit, earlier.as_ref())).await
            }
        }
    }

    async fn talkers(&self, question: TalkerRequest) -> Result<Vec<TalkerView>, ApiError> {
        let selection = sessions::select(&question.filter, &self.snapshot())?;
        let (selection, earlier) = self.earlier_traffic(selection, question.sort).await?;
        self.walk(move |walk| sessions::talkers(walk, &selection, &question, earlier.as_ref())).await
    }

    /// For rates: notes what the matching sessions have carried, and waits for the time over which rates are measured.
    async fn earlier_traffic(
        &self,
        selection: SessionMatcher,
        sort: SessionSort,
    ) -> Result<(SessionMatcher, Option<EarlierTraffic>), ApiError> {
        if !sort.is_rate() {
            return Ok((selection, None));
        }
        let turn = self.rates.acquire().await.map_err(|error| ApiError::Unavailable(error.to_string()))?;
        let carried = self
            .walk(move |walk| {
                let carried = EarlierTraffic::take(walk.table, &selection, walk.now);
                (selection, Some(carried))
            })
            .await;
        tokio::time::sleep(RATE_INTERVAL).await;
        drop(turn);
        carried
    }

    /// Walks over the session table on a blocking thread, because a million sessions take a while.
    async fn walk<R: Send + 'static>(&self, walk: impl FnOnce(Walk<'_>) -> R + Send + 'static) -> Result<R, ApiError> {
        let (shared, snapshot) = (Arc::clone(&self.shared), self.snapshot());
        let walked = tokio::task::spawn_blocking(move || {
            let now = shared.clock.now();
            walk(Walk { engine: &shared.engine, table: &shared.sessions, snapshot: &snapshot, now })
        });
        walked.await.map_err(|error| ApiError::Unavailable(error.to_string()))
    }

    async fn counters(&self) -> Result<CountersView, ApiError> {
        let others = self.on_control(|control| control.controller.counters()).await?;
        Ok(self.flat_counters(&self.shared.counters(), others))
    }

    /// Every counter by name: of the workers, the controller, the sockets and the logs.
    pub(super) fn flat_counters(&self, workers: &Counters, controller: CountersView) -> CountersView {
        let (kept, lost) = self.shared.events().archived();
        let own = [("log_dropped", logging::dropped()), ("event_log_written", kept), ("event_log_dropped", lost)];
        let ha = self.ha.iter().flat_map(|ha| ha.counters.named());
        let own = self.shared.session_log.counters().into_iter().chain(own).chain(ha);
        let sockets = self.shared.socket_counters.counters().chain(own).map(|(name, value)| (name.to_owned(), value));
        counters::flat(workers, controller.into_iter().chain(sockets))
    }

    async fn explain(&self, calls::Explain { flow, from }: calls::Explain) -> Result<Box<ExplainView>, ApiError> {
        let shared = &self.shared;
        let snapshot = self.snapshot();
        let from = from.map(|via| names::origin(&snapshot, &via)).transpose()?;
        let mut explained = explain(&shared.engine, &snapshot, &shared.sessions, &flow, from, shared.clock.now());
        if let Some(egress) = &mut explained.egress {
            // The snapshot only says whether a neighbour is known; the controller also knows how sure that is.
            let all = self.on_control(|control| control.controller.neighbors(control.now())).await?;
            let is_it = |one: &NeighborView| one.link == egress.link && Some(&one.address) == egress.next_hop.as_ref();
            egress.neighbor = all.into_iter().find(is_it).map(|one| one.state);
        }
        if cluster::is_dropped_by_role(&explained) {
            self.cluster().await.name_active(&mut explained);
        }
        Ok(Box::new(explained))
    }

    /// The order of an operator, given at this moment.
    fn operator_order(&self, reason: Option<String>, by: Option<String>) -> Order {
        Order { reason, by, at: Some(self.shared.clock.wall_time()) }
    }

    /// Carries out an operator's override. When this returns, it is in force and kept over a restart, or the answer
    /// says that it is not kept.
    async fn apply_override(
        &self,
        order: impl FnOnce(&mut Controller, Instant) -> Result<Done, ApiError> + Send + 'static,
    ) -> Result<Done, ApiError> {
        // The control thread begins it, so that it is kept even if the client disconnects. The rest is done elsewhere,
        // because a disk may be slow.
        let elsewhere = tokio::runtime::Handle::current();
        let ordered = self.on_control(move |control| {
            let now = control.now();
            let done = order(&mut control.controller, now)?;
            control.publish_now();
            let (state, change) = (control.state.clone(), control.state.set_pending(control.controller.overrides()));
            Ok((done, elsewhere.spawn_blocking(move || state.save_pending(change).map_err(|error| (state, error)))))
        });
        let (mut done, keeping) = ordered.await??;
        if let Err((state, error)) = keeping.await.map_err(|error| ApiError::Unavailable(error.to_string()))? {
            let (engine, path) = (&self.shared.engine, state.path().display().to_string());
            tracing::warn!(engine, path, %error, "override not kept");
            done.warnings.push(format!("a restart will forget it: {path}: {error}"));
        }
        Ok(done)
    }

    async fn checks(&self, calls::Checks { subject, limit }: calls::Checks) -> Result<Vec<CheckResultView>, ApiError> {
        let limit = limit.unwrap_or(calls::CHECKS_LIMIT);
        let found = self.on_control(move |control| control.controller.check_results(subject.as_deref(), limit)).await?;
        let results = found.map_err(|unknown| ApiError::NotFound(unknown.to_string()))?;
        let clock = &self.shared.clock;
        let with_time = |(at, result)| CheckResultView { at: clock.wall_at(at), ..result };
        Ok(results.into_iter().map(with_time).collect())
    }

    async fn probe(&self, name: &str) -> Result<Vec<ExchangeView>, ApiError> {
        let member = names::member(&self.snapshot(), name)?;
        let outcomes = self
            .on_control(move |control| {
                let now = control.now();
                let requests = match member {
                    Member::Firewall(id) => control.controller.probe(id, now),
                    Member::Server(id) => control.controller.probe_server(id, now),
                };
                requests.into_iter().map(|request| control.outcome_of(request)).collect::<Vec<_>>()
            })
            .await?;
        self.exchanges(outcomes).await
    }

    async fn ping(&self, call: calls::Ping) -> Result<Vec<ExchangeView>, ApiError> {
        let snapshot = self.snapshot();
        let (link, firewall) = match call.via() {
            None => (None, None),
            Some(LinkOrFirewall::Link(name)) => (Some(names::link(&snapshot, &name)?), None),
            Some(LinkOrFirewall::Firewall(name)) => (None, Some(names::firewall(&snapshot, &name)?)),
        };
        let outcome = self
            .on_control(move |control| {
                let request = control
                    .controller
                    .ping(call.address, link, firewall, control.now())
                    .map_err(|unknown| ApiError::NotFound(unknown.to_string()))?;
                Ok(control.outcome_of(request))
            })
            .await??;
        self.exchanges(vec![outcome]).await
    }

    async fn exchanges(&self, outcomes: Vec<oneshot::Receiver<ExchangeView>>) -> Result<Vec<ExchangeView>, ApiError> {
        let all = async {
            let mut views = Vec::new();
            for outcome in outcomes {
                views.extend(outcome.await.ok());
            }
            views
        };
        let views = tokio::time::timeout(EXCHANGE_TIMEOUT, all).await;
        views.map_err(|_| {
            ApiError::Unavailable(format!("engine {} did not finish the exchange in time", self.shared.engine))
        })
    }
}

/// Alarms about a configuration in force that is not the one in the engine's file.
fn configuration_alarms(shared: &Shared, history: &History) -> Vec<AlarmView> {
    let since_ms = u64::try_from(shared.clock.now().since(shared.config_text().since).as_millis()).unwrap_or(u64::MAX);
    let alarm = |kind: AlarmKind, reason: String| AlarmView {
        kind: kind.into(),
        subject: shared.engine.clone(),
        reason,
        since_ms,
    };
    let now_ms = shared.clock.wall_nanos(shared.clock.now()) / 1_000_000;
    let unconfirmed = history.unconfirmed().map(|waits| {
        let (back_to, left) = (waits.back_to, waits.remaining(now_ms).as_secs());
        alarm(
            AlarmKind::Unconfirmed,
            format!("returns to configuration {back_to} in {left} s, unless you say: fwlb confirm"),
        )
    });
    let refused = history.expired().map(|refused| {
        let (digest, back_to) = (refused.digest, refused.back_to);
        let reason =
            format!("nobody confirmed {digest}: a restart takes configuration {back_to}, fwlb reload the file");
        alarm(AlarmKind::NotConfirmed, reason)
    });
    unconfirmed.into_iter().chain(refused).collect()
}
