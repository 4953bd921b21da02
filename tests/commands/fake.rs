//! A fake engine: it answers every request and records the requests that it received.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use fwlb::api::{
    Answer, ApiError, Backend, CaptureRequest, Cursor, Done, Download, Request, SessionFilter, SessionPage,
    SessionRequest, SessionSort, TalkerRequest, TalkersBy, calls,
};
use fwlb::config::{AdminState, Difference, ForwardingMode, SchedulerName};
use fwlb::engine::view::{
    AlarmKind, AlarmView, CheckResultView, CheckView, ConfigView, EventKind, EventView, ExchangeStep, ExchangeView,
    FirewallView, HealthView, KeptConfigView, KillView, LastCheckView, ObjectKind, OverrideView, PinView, PlanView,
    ProblemView, ReloadView, ServerCheckView, ServerView, ServiceView, SessionView, StatusView, TalkerView,
};
use fwlb::engine::view::{CheckResult, FirewallState, FlowEnd, OperState, ServiceState, SessionState};
use fwlb::path::pinning::{PinState, PinnedBy};
use fwlb::wire::{Family, MacAddr, pcapng};

/// A fake engine with the firewalls fw1, which has `sessions`, and fw2.
pub struct Fake {
    pub name: &'static str,
    pub sessions: u64,
    pub asked: Mutex<Vec<Request>>,
}

impl Backend for Fake {
    fn engine(&self) -> &str {
        self.name
    }

    async fn ask(self: Arc<Self>, request: Request) -> Result<Answer, ApiError> {
        self.asked.lock().unwrap().push(request.clone());
        match request {
            Request::Status(_) => Ok(Answer::Status(self.status())),
            Request::Firewalls(_) => {
                Ok(Answer::Firewalls(vec![self.firewall("fw1", self.sessions), self.firewall("fw2", 5)]))
            }
            Request::Checks(calls::Checks { subject: Some(name), .. }) if self.name == "outer" => {
                Err(ApiError::NotFound(format!("no server or firewall is called {name:?}; there are perimeter/fw1")))
            }
            Request::Checks(_) => Ok(Answer::Checks(self.checks())),
            Request::Sessions(question) => Ok(Answer::Sessions(self.sessions(&question))),
            Request::Talkers(question) => Ok(Answer::Talkers(self.talkers(&question))),
            Request::Kill(calls::Kill { filter: SessionFilter { server: Some(server), .. }, .. })
                if self.name == "outer" =>
            {
                Err(ApiError::NotFound(format!("no server {server:?}; there is none")))
            }
            Request::Kill(calls::Kill { reset, .. }) => {
                let resets = if reset { 2 * self.sessions } else { 0 };
                Ok(Answer::Kill(vec![KillView { engine: self.name.to_owned(), killed: self.sessions, resets }]))
            }
            Request::Counters(_) => {
                // A hundred frames come between two questions, and none is forwarded.
                let is_counters = |asked: &&Request| matches!(asked, Request::Counters(_));
                let before = self.asked.lock().unwrap().iter().filter(is_counters).count() as u64 - 1;
                let numbers = [("received", 7 + 100 * before), ("forwarded", 7), ("drop_no_route", 0)];
                Ok(Answer::Counters(numbers.map(|(name, value)| (name.to_owned(), value)).into()))
            }
            Request::Events(_) => Ok(Answer::Events(vec![self.event()])),
            Request::SetFirewall(calls::SetFirewall { name, .. }) if name == "fw1" || name == "fw2" => {
                Ok(Answer::SetFirewall(Done::from(format!("firewall {name} is set to drain"))))
            }
            Request::SetFirewall(calls::SetFirewall { name, .. }) => {
                Err(ApiError::NotFound(format!("no firewall {name:?}; there are: fw1")))
            }
            Request::Ping(ping) => Ok(Answer::Ping(vec![self.exchange(&ping.address.to_string(), false)])),
            Request::Services(_) => Ok(Answer::Services(self.services())),
            Request::SetServer(set) => {
                let words = format!("server {}/{}: {:?}", set.service, set.name, set.change());
                Ok(Answer::SetServer(Done::from(words)))
            }
            Request::SetService(calls::SetService { name, admin, .. }) => {
                Ok(Answer::SetService(Done::from(format!("service {name}: {admin:?}"))))
            }
            Request::Reload(calls::Reload { config: Some(path), .. }) if path.ends_with("bad.toml") => {
                Err(ApiError::Refused(format!("{}:3:10: error: weight must be 1..=256\n", path.display())))
            }
            Request::Reload(calls::Reload { config, .. }) => Ok(Answer::Reload(self.reload(config))),
            Request::Rollback(_) => {
                let back = ReloadView {
                    config: "/var/lib/fwlb/outer/config-2.toml".to_owned(),
                    ..self.reload(Some("x".into()))
                };
                Ok(Answer::Rollback(back))
            }
            Request::Confirm(_) => {
                Ok(Answer::Confirm(Done::from("the configuration is confirmed and stays".to_owned())))
            }
            Request::Configs(_) => {
                Ok(Answer::Configs(vec![Self::kept(1, None), Self::kept(0, Some(Self::difference()))]))
            }
            Request::Plan(_) => Ok(Answer::Plan(Box::new(self.plan()))),
            Request::Probe(probe) => Ok(Answer::Probe(vec![self.exchange(&probe.subject, true)])),
            Request::Config(_) if self.name == "secretive" => {
                Ok(Answer::Config(ConfigView { text: SECRETS.to_owned(), settings: None }))
            }
            Request::Config(_) => {
                Ok(Answer::Config(ConfigView { text: format!("# of {}\n", self.name), settings: None }))
            }
            Request::Health(_) => Ok(Answer::Health(self.health())),
            Request::Links(_) => Ok(Answer::Links(vec![])),
            Request::Neighbors(_) => Ok(Answer::Neighbors(vec![])),
            Request::Peers(_) => Ok(Answer::Peers(vec![])),
            Request::Ha(_) => Ok(Answer::Ha(vec![])),
            Request::ExplainHa(_) => {
                Err(ApiError::Conflict("engine inner stands alone: its file has no [ha]".to_owned()))
            }
            Request::HaFailover(_) => Ok(Answer::HaFailover(Done::from("the role goes to inner".to_owned()))),
            Request::HaResync(_) => Ok(Answer::HaResync(Done::from("the other nodes are told".to_owned()))),
            Request::HaMaintenance(_) => Ok(Answer::HaMaintenance(Done::from("outer may be active".to_owned()))),
            Request::Metrics(_) | Request::Explain(_) | Request::Upgrade(_) => {
                Err(ApiError::Unavailable("stopping".to_owned()))
            }
        }
    }

    fn capture(&self, request: CaptureRequest) -> Result<Download, ApiError> {
        if request.filter.links.iter().any(|link| link != "firewalls") {
            return Err(ApiError::NotFound("no such link; there are: firewalls".to_owned()));
        }
        let (chunks, download) = tokio::sync::mpsc::channel(4);
        let bytes = self.captured();
        tokio::spawn(async move {
            let _ = chunks.send(bytes.into()).await;
        });
        Ok(download)
    }

    fn end_capture(&self, id: &str) -> Result<(), ApiError> {
        Err(ApiError::NotFound(format!("no capture {id:?}")))
    }
}

impl Fake {
    /// One frame on one link.
    fn captured(&self) -> Vec<u8> {
        let mut file = Vec::new();
        pcapng::section(&mut file, "fake");
        let name = &format!("{}/firewalls", self.name);
        pcapng::interface(
            &mut file,
            &pcapng::CaptureInterface { name, description: "", mac: MacAddr::default(), snaplen: 0 },
        );
        let frame = pcapng::CapturedPacket {
            interface: 0,
            at: self.sessions,
            direction: pcapng::CaptureDirection::Inbound,
            vlan: None,
            bytes: &[0; 60],
            length: 60,
            comment: self.name,
        };
        pcapng::packet(&mut file, &frame);
        file
    }

    fn difference() -> Difference {
        Difference {
            subject: "firewall perimeter/fw2".to_owned(),
            key: Some("weight".to_owned()),
            from: Some("1".to_owned()),
            to: Some("3".to_owned()),
        }
    }

    fn reload(&self, config: Option<PathBuf>) -> ReloadView {
        let own_config = format!("/etc/fwlb/{}.toml", self.name);
        let differences = if config.is_some() { vec![Self::difference()] } else { Vec::new() };
        ReloadView {
            engine: self.name.to_owned(),
            config: config.map_or_else(|| own_config.clone(), |path| path.display().to_string()),
            own_config,
            changed: !differences.is_empty(),
            differences,
            diagnostics: String::new(),
            kept: Some("/var/lib/fwlb/outer/config-3.toml".to_owned()),
            confirm_within_ms: None,
        }
    }

    fn kept(back: usize, difference: Option<Difference>) -> KeptConfigView {
        KeptConfigView {
            back,
            number: 2 - back as u64,
            at: "2026-01-02T03:04:05.678Z".to_owned(),
            by: difference.as_ref().map(|_| "kim".to_owned()),
            how: if difference.is_some() { "reload" } else { "start" }.to_owned(),
            digest: format!("000000000000000{back}"),
            file: "/etc/fwlb/outer.toml".to_owned(),
            kept: "/var/lib/fwlb/outer/config-1.toml".to_owned(),
            in_force: back == 0,
            unconfirmed: back == 0,
            differences: difference.map(|one| vec![one]),
        }
    }

    fn plan(&self) -> PlanView {
        PlanView {
            engine: self.name.to_owned(),
            config: "/etc/fwlb/new.toml".to_owned(),
            changes: true,
            differences: vec![Self::difference()],
            diagnostics: "new.toml:4:11: error: `workers` of [engine] cannot change\n".to_owned(),
            possible: false,
            sessions: 7,
            moved: 0,
            healthy_moved: 0,
            moves: vec![],
            new_flows: vec![],
            role: None,
            active_node: None,
        }
    }

    /// The inner engine has a link without carrier.
    fn health(&self) -> HealthView {
        let unplugged = || ProblemView {
            kind: "link_down".to_owned(),
            subject: "fw".to_owned(),
            reason: "link fw (eth1) is down: no carrier".to_owned(),
        };
        let problems: Vec<_> = (self.name == "inner").then(unplugged).into_iter().collect();
        HealthView { engine: self.name.to_owned(), healthy: problems.is_empty(), problems, warnings: vec![] }
    }

    fn status(&self) -> StatusView {
        StatusView {
            name: self.name.to_owned(),
            version: "1.2.3".to_owned(),
            uptime_ms: 7_440_000,
            epoch: 12,
            config_digest: "0123456789abcdef".to_owned(),
            workers: 2,
            sessions: 250,
            capacity: 1000,
            role: fwlb::ha::Role::Active.into(),
            alarms: vec![AlarmView {
                kind: AlarmKind::PeerLost.into(),
                subject: "perimeter/inner".to_owned(),
                reason: "all paths failed together".to_owned(),
                since_ms: 3000,
            }],
            overrides: vec![OverrideView {
                kind: ObjectKind::Firewall.into(),
                subject: "perimeter/fw1".to_owned(),
                admin: Some(AdminState::Drain),
                weight: None,
                reason: Some("upgrade".to_owned()),
                by: Some("kim (uid 1000)".to_owned()),
                at: Some("2026-01-02T03:04:05Z".to_owned()),
            }],
        }
    }

    fn firewall(&self, name: &str, sessions: u64) -> FirewallView {
        FirewallView {
            engine: self.name.to_owned(),
            name: name.to_owned(),
            group: "perimeter".to_owned(),
            link: "firewalls".to_owned(),
            addresses: vec!["10.1.0.11".to_owned()],
            state: FirewallState::Up.into(),
            admin: AdminState::Ready,
            override_: (name == "fw1").then_some(AdminState::Drain),
            weight: 1,
            spare: name == "fw2",
            sessions,
            new_sessions: 100,
            packets: 2000,
            bytes: 300_000,
            since_ms: 61_000,
            reason: None,
            hold_ms: None,
            // It is the last firewall: new flows still go to it, whatever its administrative state.
            new_flows: name == "fw2",
            orders: vec![],
            checks: vec![CheckView {
                peer: "inner".to_owned(),
                family: Family::V4.into(),
                state: OperState::Up.into(),
                rtt_us: Some(312),
                since_ms: 61_000,
                reason: None,
            }],
        }
    }

    /// Only the inner engine has the service `web`.
    fn services(&self) -> Vec<ServiceView> {
        let server = |name: &str, state: ServiceState, sessions| ServerView {
            name: name.to_owned(),
            addresses: vec!["10.10.20.11".to_owned(), "fd00:20::11".to_owned()],
            port: Some(8080),
            backup: name == "s2",
            state: state.into(),
            admin: AdminState::Ready,
            override_: (name == "s2").then_some(AdminState::Drain),
            weight: 3,
            weight_override: (name == "s1").then_some(3),
            sessions,
            new_sessions: 40,
            packets: 200,
            packets_in: 120,
            packets_out: 80,
            bytes: 30_000,
            bytes_in: 10_000,
            bytes_out: 20_000,
            since_ms: 61_000,
            falls: u64::from(name == "s2"),
            downtime_ms: if name == "s2" { 61_000 } else { 0 },
            reason: (name == "s2").then(|| "HTTP 503, expected 200".to_owned()),
            orders: vec![],
            checks: vec![ServerCheckView {
                family: Family::V4.into(),
                state: OperState::from(state == ServiceState::Up).into(),
                since_ms: 61_000,
                reason: None,
                last: (name == "s2").then(|| LastCheckView {
                    result: CheckResult::Failed.into(),
                    detail: Some("HTTP 503, expected 200".to_owned()),
                    duration_us: Some(1_250),
                    age_ms: 300,
                }),
                failures: 40,
                falls: u64::from(name == "s2"),
                downtime_ms: if name == "s2" { 61_000 } else { 0 },
            }],
        };
        let web = ServiceView {
            engine: self.name.to_owned(),
            name: "web".to_owned(),
            addresses: vec!["203.0.113.80".to_owned(), "2001:db8:113::80".to_owned()],
            protocols: vec!["tcp".to_owned()],
            ports: vec!["80".to_owned(), "8000-8099".to_owned()],
            scheduler: SchedulerName::Hash.into(),
            mode: ForwardingMode::Nat.into(),
            state: ServiceState::Up.into(),
            admin: AdminState::Ready,
            override_: None,
            sessions: self.sessions,
            imbalance: Some(1.015),
            since_ms: 3_600_000,
            falls: 2,
            downtime_ms: 90_000,
            reason: None,
            orders: vec![],
            servers: vec![server("s1", ServiceState::Up, self.sessions), server("s2", ServiceState::Down, 0)],
        };
        if self.name == "inner" { vec![web] } else { vec![] }
    }

    /// One engine has the results of a server, the other those of a firewall.
    fn checks(&self) -> Vec<CheckResultView> {
        let is_inner = self.name == "inner";
        let result = |at: &str, result: CheckResult| CheckResultView {
            engine: self.name.to_owned(),
            at: at.to_owned(),
            kind: if is_inner { ObjectKind::Server } else { ObjectKind::Firewall }.into(),
            subject: if is_inner { "web/s1" } else { "perimeter/fw1" }.to_owned(),
            peer: (!is_inner).then(|| "inner".to_owned()),
            family: Family::V4.into(),
            result: result.into(),
            times: if is_inner { 1 } else { 812 },
            duration_us: Some(312),
            state: OperState::Up.into(),
            detail: is_inner.then(|| "HTTP 200".to_owned()),
        };
        match is_inner {
            true => vec![
                result("2026-01-02T03:04:01.000Z", CheckResult::Passed),
                result("2026-01-02T03:04:03.000Z", CheckResult::Failed),
            ],
            false => vec![result("2026-01-02T03:04:02.000Z", CheckResult::Passed)],
        }
    }

    /// A page of as many sessions as the engine has.
    fn sessions(&self, SessionRequest { limit, after, sort, .. }: &SessionRequest) -> SessionPage {
        let from = after.as_ref().map_or(0, |after| u64::from(after.of(self.name).unwrap()));
        let end = self.sessions.min(from + limit.unwrap() as u64);
        let session = |_| match sort {
            None => self.session(),
            Some(_) => SessionView { packets_per_second: Some(7), bits_per_second: Some(5600), ..self.session() },
        };
        SessionPage {
            rows: (from..end).map(session).collect(),
            total: after.is_none().then_some(self.sessions),
            next: (end < self.sessions && sort.is_none()).then(|| Cursor::at(self.name, end as u32)),
        }
    }

    fn talkers(&self, question: &TalkerRequest) -> Vec<TalkerView> {
        assert_eq!((question.by, question.sort), (TalkersBy::Source, SessionSort::Bytes));
        vec![TalkerView {
            engine: self.name.to_owned(),
            by: "source".to_owned(),
            subject: "198.51.100.7".to_owned(),
            sessions: self.sessions,
            packets: 12,
            bytes: 900,
            packets_per_second: None,
            bits_per_second: None,
        }]
    }

    fn session(&self) -> SessionView {
        SessionView {
            engine: self.name.to_owned(),
            protocol: "tcp".to_owned(),
            source: "198.51.100.7:40000".to_owned(),
            destination: "203.0.113.80:80".to_owned(),
            identifier: None,
            pins: vec![PinView {
                group: "perimeter".to_owned(),
                firewall: "fw1".to_owned(),
                pinned_by: PinnedBy::Hash.into(),
                state: PinState::Confirmed.into(),
                toward: FlowEnd::Destination.into(),
            }],
            service: None,
            server: None,
            translated_source: None,
            translated_destination: None,
            tunnel: None,
            state: SessionState::Established.into(),
            age_ms: 5000,
            idle_ms: 10,
            expires_ms: 7_440_000,
            packets: 12,
            bytes: 900,
            packets_per_second: None,
            bits_per_second: None,
        }
    }

    fn event(&self) -> EventView {
        // The outer engine's event is the later one.
        let minute = if self.name == "outer" { 5 } else { 4 };
        EventView {
            seq: 1,
            at: format!("2026-01-02T03:0{minute}:00Z"),
            kind: EventKind::Firewall.into(),
            subject: "perimeter/fw1".to_owned(),
            from: Some("up".to_owned()),
            to: Some("down".to_owned()),
            reason: Some("no answer".to_owned()),
            by: None,
            lasted_ms: None,
        }
    }

    fn exchange(&self, subject: &str, ok: bool) -> ExchangeView {
        ExchangeView {
            engine: self.name.to_owned(),
            subject: subject.to_owned(),
            ok,
            reason: (!ok).then(|| "no answer within 1 s".to_owned()),
            rtt_us: ok.then_some(1234),
            steps: vec![ExchangeStep { at_us: 0, direction: "sent".to_owned(), what: "icmp echo".to_owned() }],
        }
    }
}

/// A file with every kind of secret in it, as an engine that hid none of them would answer.
pub const SECRETS: &str = r#"
[engine]
name = "outer"
[api]
tls = { certificate = "/etc/fwlb/tls.crt", key = "-----BEGIN PRIVATE KEY-----first" }
[[api.token]]
name = "ansible"
role = "viewer"
secret = "second-secret-of-the-file"
[[group]]
name = "perimeter"
seed = "third secret of the file"
"#;
