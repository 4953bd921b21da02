//! Tests the program against fake engines: the requests that it sends, what it prints, and its exit status.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use fwlb::api::listen::{Limits, serve_socket};
use fwlb::api::{
    Answer, ApiError, Backend, CaptureRequest, Cursor, Done, Download, LinkOrFirewall, Request, ServerChange,
    SessionFilter, SessionPage, SessionRequest, SessionSort, TalkerRequest, TalkersBy, router,
};
use fwlb::config::{AdminState, Difference};
use fwlb::engine::view::{
    AlarmView, CheckResultView, CheckView, ConfigView, EventView, ExchangeStep, ExchangeView, FirewallView, HealthView,
    KeptConfigView, KillView, LastCheckView, OverrideView, PinView, PlanView, ProblemView, ReloadView, ServerCheckView,
    ServerView, ServiceView, SessionView, StatusView, TalkerView,
};
use fwlb::wire::MacAddr;
use fwlb::wire::pcapng;
use serde_json::{Value, json};
use tokio::net::UnixListener;

#[path = "commands/shape.rs"]
mod shape;
#[path = "commands/tools.rs"]
mod tools;

/// A fake engine with the firewalls fw1, which has `sessions`, and fw2.
struct Fake {
    name: &'static str,
    sessions: u64,
    asked: Mutex<Vec<Request>>,
}

impl Backend for Fake {
    fn engine(&self) -> &str {
        self.name
    }

    async fn ask(self: Arc<Self>, request: Request) -> Result<Answer, ApiError> {
        self.asked.lock().unwrap().push(request.clone());
        match request {
            Request::Status => Ok(Answer::Status(self.status())),
            Request::Firewalls => {
                Ok(Answer::Firewalls(vec![self.firewall("fw1", self.sessions), self.firewall("fw2", 5)]))
            }
            Request::Checks { subject: Some(name), .. } if self.name == "outer" => {
                Err(ApiError::NotFound(format!("no server or firewall is called {name:?}; there are perimeter/fw1")))
            }
            Request::Checks { .. } => Ok(Answer::Checks(self.checks())),
            Request::Sessions(question) => Ok(Answer::Sessions(self.sessions(&question))),
            Request::Talkers(question) => Ok(Answer::Talkers(self.talkers(&question))),
            Request::Kill { filter: SessionFilter { server: Some(server), .. }, .. } if self.name == "outer" => {
                Err(ApiError::NotFound(format!("no server {server:?}; there is none")))
            }
            Request::Kill { reset, .. } => {
                let resets = if reset { 2 * self.sessions } else { 0 };
                Ok(Answer::Killed(vec![KillView { engine: self.name.to_owned(), killed: self.sessions, resets }]))
            }
            Request::Counters => {
                // A hundred frames come between two questions, and none is forwarded.
                let is_counters = |asked: &&Request| **asked == Request::Counters;
                let before = self.asked.lock().unwrap().iter().filter(is_counters).count() as u64 - 1;
                let numbers = [("received", 7 + 100 * before), ("forwarded", 7), ("drop_no_route", 0)];
                Ok(Answer::Counters(numbers.map(|(name, value)| (name.to_owned(), value)).into()))
            }
            Request::Events(_) => Ok(Answer::Events(vec![self.event()])),
            Request::SetFirewall { name, .. } if name == "fw1" || name == "fw2" => {
                Ok(Answer::Done(Done::from(format!("firewall {name} is set to drain"))))
            }
            Request::SetFirewall { name, .. } => {
                Err(ApiError::NotFound(format!("no firewall {name:?}; there are: fw1")))
            }
            Request::Ping { address, .. } => Ok(Answer::Exchanges(vec![self.exchange(&address.to_string(), false)])),
            Request::Services => Ok(Answer::Services(self.services())),
            Request::SetServer { service, name, change, .. } => {
                Ok(Answer::Done(Done::from(format!("server {service}/{name}: {change:?}"))))
            }
            Request::SetService { name, admin, .. } => {
                Ok(Answer::Done(Done::from(format!("service {name}: {admin:?}"))))
            }
            Request::Reload { config: Some(path), .. } if path.ends_with("bad.toml") => {
                Err(ApiError::Refused(format!("{}:3:10: error: weight must be 1..=256\n", path.display())))
            }
            Request::Reload { config, .. } => Ok(Answer::Reload(self.reload(config))),
            Request::Rollback { .. } => {
                let back = ReloadView {
                    config: "/var/lib/fwlb/outer/config-2.toml".to_owned(),
                    ..self.reload(Some("x".into()))
                };
                Ok(Answer::Reload(back))
            }
            Request::Confirm { .. } => {
                Ok(Answer::Done(Done::from("the configuration is confirmed and stays".to_owned())))
            }
            Request::Configs => Ok(Answer::Configs(vec![Self::kept(1, None), Self::kept(0, Some(Self::difference()))])),
            Request::Plan { .. } => Ok(Answer::Plan(Box::new(self.plan()))),
            Request::Probe { subject } => Ok(Answer::Exchanges(vec![self.exchange(&subject, true)])),
            Request::Config { .. } if self.name == "secretive" => {
                Ok(Answer::Config(ConfigView { text: SECRETS.to_owned(), settings: None }))
            }
            Request::Config { .. } => {
                Ok(Answer::Config(ConfigView { text: format!("# of {}\n", self.name), settings: None }))
            }
            Request::Health => Ok(Answer::Health(self.health())),
            Request::Links => Ok(Answer::Links(vec![])),
            Request::Neighbors => Ok(Answer::Neighbors(vec![])),
            Request::Peers => Ok(Answer::Peers(vec![])),
            Request::Metrics | Request::Explain { .. } => Err(ApiError::Unavailable("stopping".to_owned())),
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
            role: "active".to_owned(),
            alarms: vec![AlarmView {
                kind: "peer_lost".to_owned(),
                subject: "perimeter/inner".to_owned(),
                reason: "all paths failed together".to_owned(),
                since_ms: 3000,
            }],
            overrides: vec![OverrideView {
                kind: "firewall".to_owned(),
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
            state: "up".to_owned(),
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
            // It is the last firewall: new flows still go to it, whatever was ordered.
            new_flows: name == "fw2",
            orders: vec![],
            checks: vec![CheckView {
                peer: "inner".to_owned(),
                family: "ipv4".to_owned(),
                state: "up".to_owned(),
                rtt_us: Some(312),
                since_ms: 61_000,
                reason: None,
            }],
        }
    }

    /// Only the inner engine has the service `web`.
    fn services(&self) -> Vec<ServiceView> {
        let server = |name: &str, state: &str, sessions| ServerView {
            name: name.to_owned(),
            addresses: vec!["10.10.20.11".to_owned(), "fd00:20::11".to_owned()],
            port: Some(8080),
            backup: name == "s2",
            state: state.to_owned(),
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
                family: "ipv4".to_owned(),
                state: state.to_owned(),
                since_ms: 61_000,
                reason: None,
                last: (name == "s2").then(|| LastCheckView {
                    result: "failed".to_owned(),
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
            scheduler: "hash".to_owned(),
            mode: "nat".to_owned(),
            state: "up".to_owned(),
            admin: AdminState::Ready,
            override_: None,
            sessions: self.sessions,
            imbalance: Some(1.015),
            since_ms: 3_600_000,
            falls: 2,
            downtime_ms: 90_000,
            reason: None,
            orders: vec![],
            servers: vec![server("s1", "up", self.sessions), server("s2", "down", 0)],
        };
        if self.name == "inner" { vec![web] } else { vec![] }
    }

    /// A server's at the one engine, a firewall's at the other.
    fn checks(&self) -> Vec<CheckResultView> {
        let is_inner = self.name == "inner";
        let result = |at: &str, result: &str| CheckResultView {
            engine: self.name.to_owned(),
            at: at.to_owned(),
            kind: if is_inner { "server" } else { "firewall" }.to_owned(),
            subject: if is_inner { "web/s1" } else { "perimeter/fw1" }.to_owned(),
            peer: (!is_inner).then(|| "inner".to_owned()),
            family: "ipv4".to_owned(),
            result: result.to_owned(),
            times: if is_inner { 1 } else { 812 },
            duration_us: Some(312),
            state: "up".to_owned(),
            detail: is_inner.then(|| "HTTP 200".to_owned()),
        };
        match is_inner {
            true => vec![result("2026-01-02T03:04:01.000Z", "passed"), result("2026-01-02T03:04:03.000Z", "failed")],
            false => vec![result("2026-01-02T03:04:02.000Z", "passed")],
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
                pinned_by: "hash".to_owned(),
                state: "confirmed".to_owned(),
                toward: "destination".to_owned(),
            }],
            service: None,
            server: None,
            translated_source: None,
            translated_destination: None,
            tunnel: None,
            state: "established".to_owned(),
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
            kind: "firewall".to_owned(),
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
const SECRETS: &str = r#"
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

/// Engines with their sockets in a temporary directory, and the program that finds them there.
struct Ground {
    directory: tempfile::TempDir,
    engines: Vec<Arc<Fake>>,
    runtime: tokio::runtime::Runtime,
}

impl Ground {
    fn new(engines: &[(&'static str, u64)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut ground = Self { directory, engines: Vec::new(), runtime };
        for (name, sessions) in engines {
            let fake = Arc::new(Fake { name, sessions: *sessions, asked: Mutex::default() });
            let _context = ground.runtime.enter();
            let listener = UnixListener::bind(ground.socket(name)).unwrap();
            let router = router(Arc::clone(&fake));
            ground.runtime.spawn(serve_socket(listener, router, |_| None, Limits::of_socket()));
            ground.engines.push(fake);
        }
        ground
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.sock"))
    }

    fn fwlb(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fwlb"));
        command
            .args(line.split_ascii_whitespace().map(|word| word.replace('\u{a0}', " ")))
            .env("FWLB_RUN_DIRECTORY", self.directory.path())
            .env("USER", "kim");
        command.env_remove("SUDO_USER").output().unwrap()
    }

    /// The output of a command, which must succeed.
    #[track_caller]
    fn prints(&self, line: &str) -> String {
        let output = self.fwlb(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The error output of a command, which must fail with this status.
    #[track_caller]
    fn fails(&self, line: &str, status: i32) -> String {
        let output = self.fwlb(line);
        assert_eq!(output.status.code(), Some(status), "{line}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.prints(line)).unwrap()
    }

    fn asked(&self, engine: usize) -> Vec<Request> {
        std::mem::take(&mut *self.engines[engine].asked.lock().unwrap())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn status_is_the_default_and_tells_what_is_wrong() {
    let ground = Ground::new(&[("outer", 3)]);
    assert_eq!(
        ground.prints("show"),
        "outer: active, up 2h4m\n    \
             sessions 250 of 1000 (25.0 %), workers 2\n    \
             version 1.2.3, epoch 12, configuration 0123456789abcdef\n    \
             ALARM peer_lost perimeter/inner for 3.0s: all paths failed together\n    \
             perimeter/fw1 is set to drain* 2026-01-02T03:04:05Z by kim (uid 1000): \"upgrade\"\n"
    );
}

#[test]
fn firewalls_of_one_engine_and_of_two_are_tables() {
    let ground = Ground::new(&[("outer", 3)]);
    assert_eq!(
        ground.prints("show firewalls"),
        "FIREWALL       LINK       STATE  ADMIN    WEIGHT  SESSIONS  NEW  PACKETS   BYTES  SINCE  REASON\n\
         perimeter/fw1  firewalls  up     drain*        1         3  100     2000  300000  1m1s\n\
         perimeter/fw2  firewalls  up     ready   1 spare         5  100     2000  300000  1m1s\n\
         \n\
         PATH           PEER   FAMILY  STATE    RTT  SINCE  REASON\n\
         perimeter/fw1  inner  ipv4    up     312us  1m1s\n\
         perimeter/fw2  inner  ipv4    up     312us  1m1s\n"
    );

    let two = Ground::new(&[("outer", 3), ("inner", 3)]);
    let table = two.prints("show firewalls");
    assert!(table.starts_with("ENGINE  FIREWALL  "), "{table}");
    assert!(table.contains("\ninner   perimeter/fw1  ") && table.contains("\nouter   perimeter/fw1  "), "{table}");
    assert_eq!(two.prints("show firewalls -e outer").lines().next(), ground.prints("show firewalls").lines().next());
}

#[test]
fn json_of_one_engine_is_its_answer_and_of_several_rows_that_name_it() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    let engines = |value: &Value| value.as_array().unwrap().iter().map(|row| row["engine"].clone()).collect::<Vec<_>>();

    assert_eq!(engines(&ground.json("show firewalls --json")), ["inner", "inner", "outer", "outer"]);
    assert_eq!(engines(&ground.json("--json show status")), ["inner", "outer"]);
    assert_eq!(engines(&ground.json("show events --json")), ["inner", "outer"]);
    assert_eq!(ground.json("show status --json -e outer")["name"], "outer");
    assert_eq!(ground.json("show config --json -e outer")["text"], "# of outer\n");
    let counted = json!({ "received": 7, "forwarded": 7, "drop_no_route": 0 });
    assert_eq!(ground.json("show counters --json -e outer"), counted);
    let socket = ground.socket("inner");
    assert_eq!(ground.json(&format!("-s {} show firewalls --json", socket.display())).as_array().unwrap().len(), 2);
}

#[test]
fn events_of_several_engines_are_one_story_in_order_of_time() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    assert_eq!(
        ground.prints("show events"),
        "2026-01-02T03:04:00Z inner firewall perimeter/fw1: up -> down (no answer)\n\
         2026-01-02T03:05:00Z outer firewall perimeter/fw1: up -> down (no answer)\n"
    );
}

#[test]
fn sessions_show_their_pins_and_filters_reach_the_engine() {
    let ground = Ground::new(&[("outer", 3)]);
    let table = ground.prints("show sessions --source 198.51.100.7 --firewall fw1 --state established --limit 3");
    assert!(table.contains("perimeter/fw1 toward destination (hash, confirmed)"), "{table}");
    let asked = ground.asked(0);
    let [Request::Sessions(SessionRequest { filter, limit, .. })] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(filter.source, Some("198.51.100.7/32".parse().unwrap()));
    assert_eq!((filter.firewall.as_deref(), filter.state.as_deref()), (Some("fw1"), Some("established")));
    assert_eq!(*limit, Some(3));
}

#[test]
fn a_list_that_is_cut_says_so_and_all_of_it_comes_page_by_page() {
    let ground = Ground::new(&[("outer", 2849)]);
    let cut = ground.fwlb("show sessions");
    assert_eq!(text(&cut.stdout).lines().count(), 1 + 1000);
    assert_eq!(text(&cut.stderr), "1000 of 2849 sessions (--limit 0 for all)\n");
    let cut = ground.fwlb("show sessions --json --limit 1500");
    let rows: Vec<Value> = serde_json::from_slice(&cut.stdout).unwrap();
    let said = text(&cut.stderr);
    assert_eq!((rows.len(), said.as_str()), (1500, "{\"note\":\"1500 of 2849 sessions (--limit 0 for all)\"}\n"));

    let all = ground.fwlb("show sessions --limit 0");
    assert_eq!((text(&all.stdout).lines().count(), text(&all.stderr).as_str()), (1 + 2849, ""));
    assert_eq!(ground.json("show sessions --limit 0 --json").as_array().unwrap().len(), 2849);
    let longest = ground.asked(0).into_iter().map(|asked| match asked {
        Request::Sessions(question) => question.limit.unwrap(),
        other => panic!("{other:?}"),
    });
    assert!(longest.max().unwrap() <= 1000, "neither end holds them all");
    let both = Ground::new(&[("outer", 1200), ("inner", 1100)]);
    let cut = both.fwlb("show sessions --limit 1150 --json");
    let rows: Vec<Value> = serde_json::from_slice(&cut.stdout).unwrap();
    let said = text(&cut.stderr);
    assert_eq!((rows.len(), said.as_str()), (2250, "{\"note\":\"2250 of 2300 sessions (--limit 0 for all)\"}\n"));
}

#[test]
fn the_busiest_sessions_and_sums_of_sessions_are_asked_of_the_engine() {
    let ground = Ground::new(&[("outer", 50)]);
    let busiest = ground.fwlb("show sessions --sort packet-rate --limit 2 --host 198.51.100.7 --port 80 --port 443");
    let table = text(&busiest.stdout);
    assert!(table.lines().next().unwrap().contains("PKT/S  BIT/S") && table.contains(" 5600 "), "{table}");
    assert_eq!(text(&busiest.stderr), "2 of 50 sessions, those with the most packet-rate\n");
    let sums = ground.prints("show sessions --by source --flow tcp\u{a0}198.51.100.7\u{a0}203.0.113.80:80");
    assert_eq!(sums, "SOURCE        SESSIONS  PACKETS  BYTES\n198.51.100.7        50       12    900\n");

    let asked = ground.asked(0);
    let [Request::Sessions(busiest), Request::Talkers(sums)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((busiest.sort, busiest.limit), (Some(SessionSort::PacketRate), Some(2)));
    assert_eq!((busiest.filter.hosts.len(), busiest.filter.ports.as_slice()), (1, &[80, 443][..]));
    assert_eq!(sums.filter.flow, Some("tcp 198.51.100.7 203.0.113.80:80".parse().unwrap()));
    let wrong = ground.fails("show sessions --sort rats", 2);
    assert!(wrong.contains("packet-rate") && wrong.contains("similar"), "{wrong}");
    assert!(ground.fails("show sessions --flow tcp", 2).contains("a flow is PROTO SOURCE DESTINATION"));
}

#[test]
fn what_there_is_none_of_is_said() {
    let ground = Ground::new(&[("outer", 0)]);
    for (what, words) in [("sessions", "no sessions\n"), ("links", "no links\n"), ("neighbors", "no neighbours\n")] {
        let none = ground.fwlb(&format!("show {what}"));
        assert_eq!((text(&none.stdout).as_str(), text(&none.stderr).as_str()), ("", words));
        let none = ground.fwlb(&format!("show {what} --json"));
        assert_eq!((text(&none.stdout).as_str(), text(&none.stderr).as_str()), ("[]\n", ""));
    }
}

#[test]
fn sessions_are_counted_before_they_are_ended_and_many_of_them_take_a_yes() {
    let few = Ground::new(&[("outer", 3), ("inner", 4)]);
    assert_eq!(
        few.prints("kill --source 198.51.100.7 --reset --reason ticket"),
        "inner: 4 sessions ended, 8 resets sent\nouter: 3 sessions ended, 6 resets sent\n"
    );
    let asked = few.asked(0);
    let [Request::Sessions(_), Request::Kill { filter, reset, reason, by }] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!(filter.to_string(), "source 198.51.100.7");
    let claimed = r#"unknown user, claimed name "kim""#;
    assert_eq!((*reset, reason.as_deref(), by.as_str()), (true, Some("ticket"), claimed));

    let many = Ground::new(&[("outer", 8), ("inner", 4)]);
    let refused = many.fails("kill --port 80", 1);
    assert_eq!(
        refused,
        "fwlb: 12 sessions match (inner 4, outer 8); nothing was ended\n\
         to end more than 10 without being asked, say --yes\n"
    );
    assert!(many.asked(0).iter().all(|asked| matches!(asked, Request::Sessions(_))), "counted, and no more");
    assert_eq!(
        many.json("kill --port 80 --yes --json"),
        json!([{ "engine": "inner", "killed": 4, "resets": 0 }, { "engine": "outer", "killed": 8, "resets": 0 }])
    );
    assert_eq!(many.prints("kill -e inner --all"), "inner: 4 sessions ended\n");

    assert!(many.fails("kill", 2).contains("--all"));
    assert!(many.fails("kill --reset --yes", 2).contains("say which sessions"));
    assert!(many.fails("kill --all --port 80", 2).contains("not both"));
    let none = Ground::new(&[("outer", 0)]);
    assert_eq!(none.fails("kill --all", 1), "no sessions match\n");
    assert!(none.asked(0).iter().all(|asked| matches!(asked, Request::Sessions(_))));
}

#[test]
fn what_needs_one_engine_asks_which() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    let which = "several engines run here: inner, outer\nsay which with -e NAME";
    let said: Value = serde_json::from_str(&ground.fails("show counters --json", 1)).unwrap();
    assert_eq!(said, json!({ "error": "failed", "message": which }));
    for line in ["explain esp 192.0.2.1 192.0.2.2", "probe perimeter/fw1", "ping 192.0.2.1"] {
        assert_eq!(ground.fails(line, 1), format!("fwlb: {which}\n"), "{line}");
    }
    assert_eq!(ground.fails("show -e dmz", 1), "fwlb: engine \"dmz\" does not run; running: inner, outer\n");
    let said = ground.fails("explain esp 192.0.2.1 192.0.2.2 -e outer", 1);
    assert_eq!(said, "fwlb: stopping\ntry again; if it stays so, see the engine's log\n");
}

#[test]
fn a_dead_socket_beside_a_live_engine_is_passed_over() {
    let ground = Ground::new(&[("outer", 3)]);
    let dead = ground.socket("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(ground.prints("show").starts_with("outer: active"));
    let said = ground.fails(&format!("show -s {}", dead.display()), 1);
    assert!(said.contains("it has ended and left its socket behind"), "{said}");
}

#[test]
fn set_firewall_reaches_every_engine_that_knows_it() {
    let ground = Ground::new(&[("outer", 0), ("inner", 0)]);

    let printed = ground.prints("set firewall perimeter/fw1 drain --reason upgrade --wait 5s");

    assert_eq!(
        printed,
        "inner: firewall fw1 is set to drain\nouter: firewall fw1 is set to drain\nfw1 has no sessions\n"
    );
    for engine in [0, 1] {
        let expected = Request::SetFirewall {
            group: Some("perimeter".to_owned()),
            name: "fw1".to_owned(),
            admin: Some(AdminState::Drain),
            reason: Some("upgrade".to_owned()),
            by: "unknown user, claimed name \"kim\"".to_owned(),
            force: false,
        };
        assert_eq!(ground.asked(engine)[0], expected);
    }
    ground.prints("set firewall fw1 default");
    assert!(matches!(&ground.asked(0)[0], Request::SetFirewall { admin: None, group: None, .. }));
    assert_eq!(ground.fails("set firewall fw9 maint", 1), "fwlb: no firewall \"fw9\"; there are: fw1\n");
    assert!(ground.fails("set firewall fw1 ready --wait 5s", 2).contains("--wait is for drain"));
}

#[test]
fn a_drain_that_takes_too_long_is_a_no() {
    let ground = Ground::new(&[("outer", 3)]);
    let said = ground.fails("set firewall fw1 drain --wait 100ms", 1);
    assert_eq!(said, "fwlb: fw1 still has 3 sessions after 100ms; they stay, and no new ones come\n");
}

#[test]
fn a_drain_of_the_last_one_has_no_end_and_says_so() {
    let ground = Ground::new(&[("outer", 0)]);
    let said = ground.fails("set firewall fw2 drain --wait 500ms", 1);
    assert_eq!(
        said,
        "fwlb: fw2 still takes new flows, as no other firewall of its group does: this drain has no end; 5 sessions now\n\
         put another firewall in service, or take this one out: fwlb set firewall fw2 maint --force\n"
    );
    assert!(ground.fails("set firewall fw1 drain --force", 2).contains("--force is for maint"));
}

#[test]
fn set_server_and_service_reach_the_one_engine_that_has_them() {
    let ground = Ground::new(&[("outer", 0), ("inner", 0)]);

    let printed = ground.prints("set server web/s1 drain --wait 5s --reason upgrade");

    assert_eq!(printed, "inner: server web/s1: Admin(Some(Drain))\nweb/s1 has no sessions\n");
    assert_eq!(ground.asked(0), [Request::Services], "the outer engine has no such server");
    let expected = Request::SetServer {
        service: "web".to_owned(),
        name: "s1".to_owned(),
        change: ServerChange::Admin(Some(AdminState::Drain)),
        reason: Some("upgrade".to_owned()),
        by: "unknown user, claimed name \"kim\"".to_owned(),
        force: false,
    };
    assert_eq!(ground.asked(1)[1], expected);
    assert_eq!(ground.prints("set server web/s1 weight=7"), "inner: server web/s1: Weight(Some(7))\n");
    assert_eq!(ground.prints("set service web default"), "inner: service web: None\n");
    assert!(ground.fails("set server web/s9 drain", 1).contains("no engine has web/s9; asked were inner, outer"));
    assert!(ground.fails("set server web/s1 weight=1 --wait 5s", 2).contains("--wait is for drain"));
    assert!(ground.fails("set server web/s1 weight=999", 2).contains("a weight is 0..=256 or default"));
}

#[test]
fn the_last_checks_of_all_engines_are_one_story_and_one_that_knows_the_name_is_enough() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    assert_eq!(
        ground.prints("show checks"),
        "ENGINE  TIME                      SERVER/FIREWALL  TO     FAMILY  RESULT  TIMES  DURATION  STATE  DETAIL\n\
         inner   2026-01-02T03:04:01.000Z  web/s1           -      ipv4    passed      1     312us  up     HTTP 200\n\
         outer   2026-01-02T03:04:02.000Z  perimeter/fw1    inner  ipv4    passed    812     312us  up\n\
         inner   2026-01-02T03:04:03.000Z  web/s1           -      ipv4    failed      1     312us  up     HTTP 200\n"
    );
    let last = ground.prints("show checks -n 2");
    assert!(!last.contains("03:04:01") && last.lines().count() == 3, "{last}");
    assert_eq!(ground.json("show checks -n 1 --json").as_array().unwrap().len(), 1);

    let of_one = ground.fwlb("show checks web/s1");
    assert_eq!((text(&of_one.stderr).as_str(), of_one.status.code()), ("", Some(0)), "the other need not know it");
    assert_eq!(text(&of_one.stdout).lines().count(), 3);
    assert!(ground.asked(0).contains(&Request::Checks { subject: Some("web/s1".to_owned()), limit: None }));
    assert!(ground.fails("show checks web/s1 -e outer", 1).contains("no server or firewall is called"));
}

#[test]
fn services_stand_over_their_servers() {
    let ground = Ground::new(&[("inner", 5)]);
    let printed = ground.prints("show services");
    let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..4], ["SERVICE/SERVER", "ADDRESS", "STATE", "ADMIN"]);
    assert_eq!(lines[1][..4], ["web", "tcp", "203.0.113.80:80,8000-8099", "[2001:db8:113::80]:80,8000-8099"]);
    assert!(
        printed.contains("  1h0m   2 (1m30s)  nat, hash, 1 of 1 up, 0 of 1 backups up, imbalance 1.01"),
        "{printed}"
    );
    assert_eq!(
        lines[2],
        ["s1", "10.10.20.11:8080", "[fd00:20::11]:8080", "up", "ready", "3*", "5", "40", "200", "30000", "1m1s", "0"]
    );
    assert!(printed.lines().nth(3).unwrap().starts_with("  s2"), "{printed}");
    assert!(lines[3].join(" ").contains("down drain* 3 backup 0"), "{printed}");
    assert!(printed.contains("  1 (1m1s)   HTTP 503, expected 200\n"), "{printed}");
    let checks = printed.split("\n\n").nth(1).unwrap_or_default();
    assert_eq!(
        checks,
        "CHECK   FAMILY  STATE  SINCE  FAILED  FALLS     AGO    DURATION  LAST CHECK\n\
         web/s1  ipv4    up     1m1s       40  0         -             -\n\
         web/s2  ipv4    down   1m1s       40  1 (1m1s)  300ms    1.25ms  failed: HTTP 503, expected 200\n"
    );
}

#[test]
fn probe_and_ping_print_the_exchange_and_answer_with_their_status() {
    let ground = Ground::new(&[("outer", 3)]);
    let printed = ground.prints("probe perimeter/fw1");
    assert_eq!(printed, "perimeter/fw1: ok, 1.23ms\n      0.000 ms  sent      icmp echo\n");

    let output = ground.fwlb("ping 192.0.2.1 --firewall perimeter/fw1 -c 2 -i 10ms");
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output.stdout);
    assert!(printed.contains("192.0.2.1: FAILED: no answer within 1 s"), "{printed}");
    assert!(printed.ends_with("2 sent, 0 answered\n"), "{printed}");
    let via = Some(LinkOrFirewall::Firewall("perimeter/fw1".to_owned()));
    let ping = Request::Ping { address: "192.0.2.1".parse().unwrap(), via };
    assert_eq!(ground.asked(0)[1..], [ping.clone(), ping]);
}

#[test]
fn the_configuration_comes_as_it_is() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    assert_eq!(ground.prints("show config -e outer"), "# of outer\n");
    assert_eq!(ground.prints("show config"), "# engine inner\n# of inner\n# engine outer\n# of outer\n");
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_fwlb")).args(["man", "--directory"]).arg(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for page in ["fwlb.1", "fwlb-check.1", "fwlb-show-sessions.1", "fwlb-set-firewall.1"] {
        assert!(Path::new(&directory.path().join(page)).exists(), "{page}");
    }
}

#[test]
fn the_last_configurations_are_listed_returned_to_and_confirmed() {
    let ground = Ground::new(&[("outer", 3)]);
    assert_eq!(
        ground.prints("show configs"),
        "1  2026-01-02T03:04:05.678Z  start  0000000000000001  /etc/fwlb/outer.toml\n\
         0  2026-01-02T03:04:05.678Z  reload by kim  0000000000000000  /etc/fwlb/outer.toml, in force, not confirmed yet\n     \
         firewall perimeter/fw2: weight 1 -> 3\n"
    );
    let printed = ground.prints("rollback 2");
    assert!(printed.contains("engine outer runs with /var/lib/fwlb/outer/config-2.toml\n"), "{printed}");
    assert!(printed.contains("cp /var/lib/fwlb/outer/config-3.toml /etc/fwlb/outer.toml\n"), "{printed}");
    assert_eq!(ground.prints("confirm"), "the configuration is confirmed and stays\n");
    ground.prints("reload --confirm 2m");
    ground.fails("rollback 2 --plan", 1);
    let by = || "unknown user, claimed name \"kim\"".to_owned();
    let confirm = Some(std::time::Duration::from_secs(120));
    assert_eq!(
        ground.asked(0),
        [
            Request::Configs,
            Request::Rollback { back: 2, by: by() },
            Request::Confirm { by: by() },
            Request::Reload { config: None, confirm, by: by() },
            Request::Plan { config: None, back: Some(2) },
        ]
    );
}

#[test]
fn a_reload_names_the_file_as_the_engine_understands_it_and_tells_what_it_did() {
    let ground = Ground::new(&[("outer", 3)]);

    let printed = ground.prints("reload some/new.toml");
    let path = std::env::current_dir().unwrap().join("some/new.toml");
    assert_eq!(
        printed,
        format!(
            "firewall perimeter/fw2: weight 1 -> 3\nengine outer runs with {}\n\
             a reload without a file, and a restart, take /etc/fwlb/outer.toml again\n\
             to bring it over: cp /var/lib/fwlb/outer/config-3.toml /etc/fwlb/outer.toml\n",
            path.display()
        )
    );
    assert_eq!(
        ground.asked(0),
        [Request::Reload { config: Some(path), by: "unknown user, claimed name \"kim\"".to_owned(), confirm: None }]
    );

    assert_eq!(
        ground.prints("reload"),
        "nothing has changed: engine outer ran with what /etc/fwlb/outer.toml says already\n"
    );
    assert_eq!(ground.json("reload /x.toml --json")["differences"][0]["subject"], "firewall perimeter/fw2");
    let complaint = ground.fails("reload /etc/fwlb/bad.toml", 1);
    assert!(complaint.contains("/etc/fwlb/bad.toml:3:10: error: weight must be 1..=256"), "{complaint}");
}

#[test]
fn a_plan_that_takes_a_restart_says_so_and_its_status_is_no() {
    let ground = Ground::new(&[("outer", 3)]);
    let output = ground.fwlb("plan /etc/fwlb/new.toml");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stdout),
        "firewall perimeter/fw2: weight 1 -> 3\na reload would refuse this: restart engine outer for it\n"
    );
    assert!(text(&output.stderr).contains("new.toml:4:11: error"), "{}", text(&output.stderr));
    assert_eq!(ground.asked(0), [Request::Plan { config: Some("/etc/fwlb/new.toml".into()), back: None }]);
}

#[test]
fn two_engines_are_not_reloaded_at_a_guess() {
    let ground = Ground::new(&[("inner", 1), ("outer", 3)]);
    let complaint = ground.fails("reload", 1);
    assert!(complaint.contains("inner, outer") && complaint.contains("-e NAME"), "{complaint}");
    assert!(ground.asked(0).is_empty() && ground.asked(1).is_empty());
}

#[test]
fn engines_that_are_named_by_their_sockets_are_captured_into_one_file() {
    let ground = Ground::new(&[("outer", 3), ("inner", 4)]);
    let file = ground.directory.path().join("both.pcapng");
    let sockets = format!("-s {} -s {}", ground.socket("outer").display(), ground.socket("inner").display());
    let line = format!("capture {sockets} -w {} --link firewalls --dropped", file.display());

    let captured = ground.fwlb(&line);

    assert_eq!(captured.status.code(), Some(0), "{}", text(&captured.stderr));
    assert_eq!(text(&captured.stderr), "2 frames of outer, inner; 0 lost because they came too fast\n");
    assert!(std::fs::read(file).unwrap().len() > 200);
    let one = ground.fails(&format!("probe perimeter/fw1 {sockets}"), 1);
    assert_eq!(one, "fwlb: one engine is asked at a time: name one socket, of outer, inner\n");
    let wrong = ground.fails("capture -w never.pcapng --dropped ttl_expird", 2);
    assert!(wrong.contains("'ttl_expired'"), "{wrong}");
}
