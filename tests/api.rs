//! Tests router and client together over a real Unix socket, with a fake engine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fwlb::api::listen::{Limits, serve_socket};
use fwlb::api::{
    Answer, ApiError, Backend, CaptureRequest, Done, Download, EventFilter, EventTime, LinkOrFirewall, Request,
    ServerChange, SessionFilter, SessionPage, SessionRequest, SessionSort, TalkerRequest, TalkersBy, calls, flow_text,
    router,
};
use fwlb::client::{Client, ClientError};
use fwlb::config::AdminState;
use fwlb::engine::view;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

#[path = "api/listing.rs"]
mod listing;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/network.rs"]
mod network;
#[path = "api/open_metrics.rs"]
mod open_metrics;
#[path = "api/openapi.rs"]
mod openapi;
#[path = "api/reference.rs"]
mod reference;
#[path = "api/schema.rs"]
mod schema;

/// A fake engine: it records the requests and gives the next of `answers`.
struct Fake {
    asked: Mutex<Vec<Request>>,
    answers: Mutex<Vec<Result<Answer, ApiError>>>,
}

impl Backend for Fake {
    fn engine(&self) -> &str {
        "outer"
    }

    async fn ask(self: Arc<Self>, request: Request) -> Result<Answer, ApiError> {
        self.asked.lock().unwrap().push(request);
        let answer = self.answers.lock().unwrap().pop();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn capture(&self, request: CaptureRequest) -> Result<Download, ApiError> {
        let (chunks, download) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            let _ = chunks.send(format!("{request:?}").into()).await;
        });
        Ok(download)
    }

    fn end_capture(&self, id: &str) -> Result<(), ApiError> {
        Err(ApiError::NotFound(format!("no capture {id:?}")))
    }
}

struct Served {
    fake: Arc<Fake>,
    client: Client,
    socket: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

/// Serves `answers` in this order.
fn serve(answers: Vec<Result<Answer, ApiError>>) -> Served {
    serve_within(answers, Limits::of_socket())
}

fn serve_within(mut answers: Vec<Result<Answer, ApiError>>, limits: Limits) -> Served {
    answers.reverse();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("outer.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let fake = Arc::new(Fake { asked: Mutex::default(), answers: Mutex::new(answers) });
    let router = router(Arc::clone(&fake));
    tokio::spawn(serve_socket(listener, router, |_| None, limits));
    Served { fake, client: Client::new(&socket), socket, _directory: directory }
}

/// Sends raw bytes, and returns the status code and the body.
async fn raw(served: &Served, request: &str) -> (u16, serde_json::Value) {
    let mut stream = UnixStream::connect(&served.socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

async fn get(served: &Served, uri: &str) -> (u16, serde_json::Value) {
    raw(served, &format!("GET {uri} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

fn done() -> Result<Answer, ApiError> {
    Ok(Answer::Confirm(Done::from("done".to_owned())))
}

/// A filter with every criterion set.
fn every_part() -> EventFilter {
    EventFilter {
        after: 7,
        since: Some(EventTime::At(std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_258_800_123))),
        kinds: vec!["admin".to_owned(), "server".to_owned()],
        subject: Some("perimeter/fw1".to_owned()),
        limit: Some(50),
    }
}

#[test]
fn a_time_is_a_while_ago_or_a_date() {
    let since = |text: &str| text.parse::<EventTime>().map(|since| since.to_string());
    assert_eq!(since("10m"), Ok("600000ms".to_owned()));
    assert_eq!(since("2026-11-21T11:00:00Z"), Ok("2026-11-21T11:00:00.000Z".to_owned()));
    assert_eq!(since("2026-11-21 11:00:00"), Ok("2026-11-21T11:00:00.000Z".to_owned()));
    assert_eq!(since("2026-11-21"), Ok("2026-11-21T00:00:00.000Z".to_owned()));
    assert!(since("yesterday").unwrap_err().to_string().contains("\"10m\""));
}

/// One request of every kind, each with all optional parts and with none.
fn every_request() -> Vec<Request> {
    let flow = flow_text::parse("udp [2001:db8::1]:53 [2001:db8::2]:53").unwrap();
    let filter = SessionFilter {
        source: Some("203.0.113.0/24".parse().unwrap()),
        destination: Some("2001:db8::1/128".parse().unwrap()),
        firewall: Some("perimeter/fw1".to_owned()),
        service: Some("web".to_owned()),
        server: Some("web/s1".to_owned()),
        state: Some("one-way".to_owned()),
        hosts: vec!["198.51.100.7/32".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        ports: vec![80, 0],
        flow: Some("tcp [2001:db8::7]:40000 2001:db8::1".parse().unwrap()),
    };
    let sessions = |sort, limit, after: Option<&str>| {
        let after = after.map(|after| after.parse().unwrap());
        Request::Sessions(SessionRequest { filter: filter.clone(), sort, limit, after })
    };
    let talkers = |by, sort, limit| Request::Talkers(TalkerRequest { filter: filter.clone(), by, sort, limit });
    let kill = |filter: SessionFilter, reset| {
        Request::from(calls::Kill { filter, reset, reason: None, by: Some("tester".to_owned()) })
    };
    let by = || Some("tester".to_owned());
    let (link, firewall) = (|| Some("clients".to_owned()), || Some("perimeter/fw1".to_owned()));
    let set = |group, admin, reason| {
        let (name, by) = ("fw1".to_owned(), Some("tester & co".to_owned()));
        Request::from(calls::SetFirewall { group, name, admin, reason, by, force: true })
    };
    let set_server = |change| {
        let reason = Some("a reason".to_owned());
        Request::from(calls::SetServer { reason, by: by(), ..calls::SetServer::new("web", "s1", change) })
    };
    let explain = |from| Request::from(calls::Explain { flow, from });
    let ping = |address: &str, link, firewall| {
        Request::from(calls::Ping { address: address.parse().unwrap(), link, firewall })
    };
    vec![
        Request::Status(calls::Status {}),
        Request::Health(calls::Health {}),
        Request::Links(calls::Links {}),
        Request::Neighbors(calls::Neighbors {}),
        Request::Firewalls(calls::Firewalls {}),
        Request::Peers(calls::Peers {}),
        Request::Ha(calls::Ha {}),
        Request::ExplainHa(calls::ExplainHa {}),
        calls::HaFailover { to: None, reason: None, by: by(), force: false }.into(),
        calls::HaFailover { to: Some("outer-b".to_owned()), reason: Some("fans".to_owned()), by: by(), force: true }
            .into(),
        calls::HaMaintenance { maintenance: true, reason: None, by: by() }.into(),
        calls::HaResync { reason: None, by: by() }.into(),
        calls::Upgrade { reason: Some("1.2.3".to_owned()), by: by() }.into(),
        calls::Checks::default().into(),
        calls::Checks { subject: Some("web/s1".to_owned()), limit: Some(20) }.into(),
        Request::Sessions(SessionRequest::default()),
        sessions(None, Some(5), None),
        sessions(Some(SessionSort::PacketRate), Some(10), None),
        sessions(None, None, Some("outer:70000")),
        talkers(TalkersBy::Source, SessionSort::Bytes, None),
        talkers(TalkersBy::Firewall, SessionSort::Rate, Some(3)),
        kill(filter.clone(), true),
        kill(SessionFilter::default(), false),
        Request::Counters(calls::Counters {}),
        Request::Metrics(calls::Metrics {}),
        Request::Events(EventFilter::after(u64::MAX)),
        Request::Events(every_part()),
        calls::Config { all: false }.into(),
        calls::Config { all: true }.into(),
        explain(None),
        explain(Some(LinkOrFirewall::Link("clients".to_owned()))),
        explain(firewall().map(LinkOrFirewall::Firewall)),
        set(None, None, None),
        set(Some("perimeter".to_owned()), Some(AdminState::Drain), Some("maintenance window №5".to_owned())),
        Request::Services(calls::Services {}),
        set_server(ServerChange::Admin(None)),
        set_server(ServerChange::Admin(Some(AdminState::Maint))),
        set_server(ServerChange::Weight(None)),
        set_server(ServerChange::Weight(Some(0))),
        calls::SetService { name: "web".to_owned(), admin: Some(AdminState::Drain), reason: None, by: by() }.into(),
        calls::Reload { config: None, confirm_ms: None, by: by() }.into(),
        calls::Reload { config: Some("/etc/fwlb/a b.toml".into()), confirm_ms: None, by: by() }.into(),
        calls::Reload { config: None, confirm_ms: Some(120_000), by: by() }.into(),
        calls::Rollback { back: Some(3), by: by() }.into(),
        calls::Confirm { by: by() }.into(),
        Request::Configs(calls::Configs {}),
        calls::Plan { config: None, back: Some(2) }.into(),
        calls::Plan { config: None, back: None }.into(),
        calls::Plan { config: Some("/etc/fwlb/a b.toml".into()), back: None }.into(),
        calls::Probe { subject: "perimeter/fw1".to_owned() }.into(),
        ping("2001:db8::1", None, None),
        ping("192.0.2.1", link(), None),
        ping("192.0.2.1", None, firewall()),
    ]
}

#[tokio::test]
async fn every_request_arrives_as_it_was_asked() {
    let mut requests = every_request();
    let answer = |request: &Request| match request {
        Request::Sessions(_) => Ok(Answer::Sessions(SessionPage::default())),
        _ => done(),
    };
    let served = serve(requests.iter().map(answer).collect());

    for request in &requests {
        let told = served.client.ask_json(request).await;
        assert_eq!(told.unwrap(), serde_json::to_value(answer(request).unwrap()).unwrap(), "{request:?}");
    }

    // A client cannot choose the name under which it appears: this one is ignored.
    let claim = |by: &mut Option<String>| {
        let name = by.take().expect("the command line names its user");
        *by = Some(format!("unknown user, claimed name {name:?}"));
    };
    for request in &mut requests {
        match request {
            Request::SetFirewall(call) => claim(&mut call.by),
            Request::SetServer(call) => claim(&mut call.by),
            Request::SetService(call) => claim(&mut call.by),
            Request::Reload(call) => claim(&mut call.by),
            Request::Rollback(call) => claim(&mut call.by),
            Request::Confirm(call) => claim(&mut call.by),
            Request::Kill(call) => claim(&mut call.by),
            Request::HaFailover(call) => claim(&mut call.by),
            Request::HaMaintenance(call) => claim(&mut call.by),
            Request::HaResync(call) => claim(&mut call.by),
            Request::Upgrade(call) => claim(&mut call.by),
            _ => {}
        }
    }
    assert_eq!(*served.fake.asked.lock().unwrap(), requests);
}

#[tokio::test]
async fn answers_come_back_in_the_shape_of_the_contract() {
    let events = vec![view::EventView {
        seq: 7,
        at: "2026-01-02T03:04:05Z".to_owned(),
        kind: view::EventKind::Firewall.into(),
        subject: "perimeter/fw1".to_owned(),
        from: Some("up".to_owned()),
        to: Some("down".to_owned()),
        reason: None,
        by: None,
        lasted_ms: None,
    }];
    let served =
        serve(vec![Ok(Answer::Events(events.clone())), Ok(Answer::Events(events.clone())), Ok(Answer::Peers(vec![]))]);

    let (status, body) = get(&served, "/api/v1/events?after=3&engine=outer").await;

    assert_eq!(status, 200);
    let expected = json!([{ "seq": 7, "at": "2026-01-02T03:04:05Z", "kind": "firewall", "subject": "perimeter/fw1",
        "from": "up", "to": "down", "lasted_ms": null, "reason": null, "by": null }]);
    assert_eq!(body, expected);
    assert_eq!(served.client.ask(&EventFilter::default()).await.unwrap(), events);
    assert_eq!(served.client.ask(&calls::Peers {}).await.unwrap(), []);
}

#[tokio::test]
async fn errors_of_the_engine_keep_their_kind_and_words_over_the_socket() {
    let errors = [
        (404, ApiError::NotFound("no firewall fw9; there is fw1, fw2".to_owned())),
        (400, ApiError::BadRequest("a flow cannot arrive there".to_owned())),
        (503, ApiError::Unavailable("stopping".to_owned())),
    ];
    for (code, error) in errors {
        let served = serve(vec![Err(error.clone()), Err(error.clone())]);

        let (status, body) = get(&served, "/api/v1/status").await;
        let asked = served.client.ask(&calls::Status {}).await.unwrap_err();

        assert_eq!(status, code);
        assert_eq!(body["message"], error.to_string());
        let came = match asked {
            ClientError::Engine(came) => came,
            ClientError::Busy(message) => ApiError::Unavailable(message),
            other => panic!("{other:?}"),
        };
        assert_eq!(came, error);
    }
}

#[tokio::test]
async fn a_bad_request_is_answered_in_json_and_never_reaches_the_engine() {
    let served = serve(vec![]);
    let cases = [
        ("/api/v1/nothing", 404, "no such resource"),
        ("/api/v1/status?engine=inner", 404, "this is \"outer\""),
        ("/api/v1/sessions?frewall=fw1", 400, "unknown field `frewall`, expected one of `source`, "),
        ("/api/v1/config?al=1", 400, "unknown field `al`, expected `all` or `engine`"),
        ("/api/v1/links?x=1", 400, "Failed to deserialize query string: x: unknown field `x`, expected `engine`"),
        ("/api/v1/links?engine=outer&engine=outer", 400, "duplicate field `engine`"),
        ("/api/v1/sessions?engine=inner", 404, "this is \"outer\""),
        ("/api/v1/sessions?source=300.1.1.1", 400, "not an address or prefix"),
        ("/api/v1/sessions?host=10.0.0.1,nobody", 400, "not an address or prefix: \"nobody\""),
        ("/api/v1/sessions?port=80,http", 400, "a port is 0..=65535, found \"http\""),
        ("/api/v1/sessions?flow=tcp+1.2.3.4", 400, "a flow is PROTO SOURCE DESTINATION"),
        ("/api/v1/sessions?state=open", 400, "opening, established, closing, one-way, two-way"),
        ("/api/v1/sessions?sort=size", 400, "packets, bytes, rate, packet-rate, age, idle"),
        ("/api/v1/sessions?sort=bytes&limit=0", 400, "with `sort` a `limit` is 1..=10000"),
        ("/api/v1/sessions?sort=bytes&after=outer:1", 400, "`after` goes on in the table's order"),
        ("/api/v1/sessions?after=1000", 400, "ENGINE:PLACE"),
        ("/api/v1/talkers", 400, "missing field"),
        ("/api/v1/talkers?by=nobody", 400, "source, destination, service, server, firewall"),
        ("/api/v1/talkers?by=source&sort=age", 400, "sums are sorted by bytes, packets, rate or packet-rate"),
        ("/api/v1/talkers?by=source&limit=10001", 400, "`limit` is 1..=10000"),
        ("/api/v1/sessions/kill", 405, "GET is not possible"),
        ("/api/v1/events?after=-1", 400, "invalid digit"),
        ("/api/v1/explain", 400, "missing field"),
        ("/api/v1/explain?flow=tcp+1.2.3.4+5.6.7.8", 400, "tcp needs a port"),
        ("/api/v1/explain?flow=esp+1.2.3.4+5.6.7.8&from=a/b/c", 400, "expected LINK or GROUP/FIREWALL"),
        ("/api/v1/probe", 405, "GET is not possible"),
    ];
    for (uri, code, words) in cases {
        let (status, body) = get(&served, uri).await;
        assert_eq!(status, code, "{uri}: {body}");
        assert!(body["message"].as_str().unwrap().contains(words), "{uri}: {body}");
    }

    let put_to = |what: &str, body: &str| {
        format!(
            "PUT /api/v1/{what}/admin HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let put = |body: &str| put_to("firewalls", body);
    for (body, words) in [
        (r#"{"service":"web","name":"s1","weight":257}"#, "a weight is 0..=256, found 257"),
        (r#"{"service":"web","name":"s1","admin":"drain","weight":1}"#, "not both"),
        (r#"{"name":"s1","admin":"drain"}"#, "missing field"),
    ] {
        let (status, answer) = raw(&served, &put_to("servers", body)).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{body}: {answer}");
    }
    let long = format!(r#"{{"all":true,"reason":"{}"}}"#, "x".repeat(201));
    for (body, words) in [
        ("{}", "say which sessions are to end, or `all`"),
        (r#"{"reset":true,"reason":"why"}"#, "say which sessions are to end"),
        (r#"{"all":true,"source":"10.0.0.1"}"#, "not both"),
        (r#"{"hosts":["nobody"]}"#, "not an address or prefix"),
        (r#"{"sauce":"10.0.0.1"}"#, "unknown field"),
        (r#"{"all":true,"reason":"one line\nand another"}"#, "a reason is one line"),
        (long.as_str(), "a reason has 200 letters at most, found 201"),
    ] {
        let kill = put_to("sessions", body).replace("PUT", "POST").replace("/admin", "/kill");
        let (status, answer) = raw(&served, &kill).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{body}: {answer}");
    }
    for body in ["", "{", "{}", r#"{"name":"fw1","admin":"off"}"#, r#"{"name":"fw1","amdin":"drain"}"#] {
        let (status, answer) = raw(&served, &put(body)).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert_eq!(answer["error"], "bad_request");
    }
    let (status, _) = raw(&served, &put(&" ".repeat(70_000))).await;
    assert_eq!(status, 400);
    assert!(served.fake.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_to_another_call_is_no_answer() {
    let served = serve(vec![done(), done(), done()]);
    for (uri, path) in
        [("/healthz", "/api/v1/health"), ("/metrics", "/api/v1/measures"), ("/api/v1/sessions", "/api/v1/sessions")]
    {
        let (status, body) = get(&served, uri).await;
        let message = format!("engine outer answered another call than {path}");
        assert_eq!((status, &body), (503, &json!({ "error": "unavailable", "message": message })), "{uri}");
    }
}

#[tokio::test]
async fn a_change_through_the_api_needs_only_a_name_and_a_state() {
    let served = serve(vec![done()]);
    let body = r#"{"name":"fw1","admin":"maint"}"#;
    let request = format!(
        "PUT /api/v1/firewalls/admin?engine=outer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );

    let (status, answer) = raw(&served, &request).await;

    assert_eq!((status, answer), (200, json!({ "done": "done", "held": [], "warnings": [] })));
    let expected = Request::from(calls::SetFirewall {
        name: "fw1".to_owned(),
        admin: Some(AdminState::Maint),
        by: Some("unknown user".to_owned()),
        ..calls::SetFirewall::default()
    });
    assert_eq!(*served.fake.asked.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn an_engine_that_stays_silent_is_left_after_a_while() {
    let served = serve(vec![]);
    let client = served.client.clone().timeout(Duration::from_millis(50));

    let error = client.ask(&calls::Status {}).await.unwrap_err();

    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn silent_connections_to_a_control_socket_delay_nobody() {
    let served = serve(vec![done()]);
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(UnixStream::connect(&served.socket).await.unwrap());
    }

    let answer = served.client.clone().timeout(Duration::from_secs(3)).ask_json(&calls::Status {}.into()).await;

    assert_eq!(answer.unwrap()["done"], "done");
}

#[tokio::test]
async fn half_a_body_on_a_control_socket_is_not_waited_for_for_ever() {
    let limits = Limits { answer: Duration::from_millis(200), ..Limits::of_socket() };
    let served = serve_within(vec![], limits);
    let half = "POST /api/v1/probe HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";

    let (status, answer) = tokio::time::timeout(Duration::from_secs(5), raw(&served, half)).await.unwrap();

    assert_eq!((status, &answer["error"]), (408, &json!("unavailable")));
}

#[tokio::test]
async fn a_socket_that_is_missing_dead_or_foreign_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Client::new(directory.path().join("missing.sock"));
    let error = missing.ask(&calls::Status {}).await.unwrap_err();
    assert!(matches!(error, ClientError::NoSocket { .. }), "{error:?}");

    let path = directory.path().join("dead.sock");
    drop(UnixListener::bind(&path).unwrap());
    let error = Client::new(path).ask(&calls::Status {}).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");

    let path = directory.path().join("foreign.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();
    });
    let error = Client::new(path).ask(&calls::Status {}).await.unwrap_err();
    // It is a race whether its text or its end arrives first.
    assert!(matches!(error, ClientError::Garbled { .. } | ClientError::BrokenOff { .. }), "{error:?}");
}
