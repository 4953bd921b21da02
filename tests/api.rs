//! Tests router and client together over a real Unix socket, with a fake engine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fwlb::api::listen::{Limits, serve_socket};
use fwlb::api::{
    Answer, ApiError, Backend, CaptureRequest, Done, Download, EventFilter, EventTime, LinkOrFirewall, Request,
    ServerChange, SessionFilter, SessionPage, SessionRequest, SessionSort, TalkerRequest, TalkersBy, flow_text, router,
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
    Ok(Answer::Done(Done::from("done".to_owned())))
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
    let kill = |filter: SessionFilter, reset| Request::Kill { filter, reset, reason: None, by: "tester".to_owned() };
    let firewall = || Some(LinkOrFirewall::Firewall("perimeter/fw1".to_owned()));
    let set = |group, admin, reason| Request::SetFirewall {
        group,
        name: "fw1".to_owned(),
        admin,
        reason,
        by: "tester & co".to_owned(),
        force: true,
    };
    let set_server = |change| Request::SetServer {
        service: "web".to_owned(),
        name: "s1".to_owned(),
        change,
        reason: Some("a reason".to_owned()),
        by: "tester".to_owned(),
        force: false,
    };
    vec![
        Request::Status,
        Request::Health,
        Request::Links,
        Request::Neighbors,
        Request::Firewalls,
        Request::Peers,
        Request::Checks { subject: None, limit: None },
        Request::Checks { subject: Some("web/s1".to_owned()), limit: Some(20) },
        Request::Sessions(SessionRequest::default()),
        sessions(None, Some(5), None),
        sessions(Some(SessionSort::PacketRate), Some(10), None),
        sessions(None, None, Some("outer:70000")),
        talkers(TalkersBy::Source, SessionSort::Bytes, None),
        talkers(TalkersBy::Firewall, SessionSort::Rate, Some(3)),
        kill(filter.clone(), true),
        kill(SessionFilter::default(), false),
        Request::Counters,
        Request::Metrics,
        Request::Events(EventFilter::after(u64::MAX)),
        Request::Events(every_part()),
        Request::Config { all: false },
        Request::Config { all: true },
        Request::Explain { flow, from: None },
        Request::Explain { flow, from: Some(LinkOrFirewall::Link("clients".to_owned())) },
        Request::Explain { flow, from: firewall() },
        set(None, None, None),
        set(Some("perimeter".to_owned()), Some(AdminState::Drain), Some("maintenance window №5".to_owned())),
        Request::Services,
        set_server(ServerChange::Admin(None)),
        set_server(ServerChange::Admin(Some(AdminState::Maint))),
        set_server(ServerChange::Weight(None)),
        set_server(ServerChange::Weight(Some(0))),
        Request::SetService {
            name: "web".to_owned(),
            admin: Some(AdminState::Drain),
            reason: None,
            by: "tester".to_owned(),
        },
        Request::Reload { config: None, confirm: None, by: "tester".to_owned() },
        Request::Reload { config: Some("/etc/fwlb/a b.toml".into()), confirm: None, by: "tester".to_owned() },
        Request::Reload { config: None, confirm: Some(Duration::from_secs(120)), by: "tester".to_owned() },
        Request::Rollback { back: 3, by: "tester".to_owned() },
        Request::Confirm { by: "tester".to_owned() },
        Request::Configs,
        Request::Plan { config: None, back: Some(2) },
        Request::Plan { config: None, back: None },
        Request::Plan { config: Some("/etc/fwlb/a b.toml".into()), back: None },
        Request::Probe { subject: "perimeter/fw1".to_owned() },
        Request::Ping { address: "2001:db8::1".parse().unwrap(), via: None },
        Request::Ping { address: "192.0.2.1".parse().unwrap(), via: Some(LinkOrFirewall::Link("clients".to_owned())) },
        Request::Ping { address: "192.0.2.1".parse().unwrap(), via: firewall() },
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
    let claims = |text: &str| format!("unknown user, claimed name {text:?}");
    for request in &mut requests {
        match request {
            Request::SetFirewall { by, .. }
            | Request::SetServer { by, .. }
            | Request::SetService { by, .. }
            | Request::Reload { by, .. }
            | Request::Rollback { by, .. }
            | Request::Confirm { by, .. }
            | Request::Kill { by, .. } => *by = claims(by),
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
        kind: "firewall".to_owned(),
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
    assert_eq!(served.client.ask(&Request::Events(EventFilter::default())).await.unwrap(), Answer::Events(events));
    assert_eq!(served.client.ask(&Request::Peers).await.unwrap(), Answer::Peers(vec![]));
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
        let asked = served.client.ask(&Request::Status).await.unwrap_err();

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
        ("/api/v1/sessions?frewall=fw1", 400, "unknown field"),
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
    for (body, words) in [
        ("{}", "say which sessions are to end, or `all`"),
        (r#"{"reset":true,"reason":"why"}"#, "say which sessions are to end"),
        (r#"{"all":true,"source":"10.0.0.1"}"#, "not both"),
        (r#"{"hosts":["nobody"]}"#, "not an address or prefix"),
        (r#"{"sauce":"10.0.0.1"}"#, "unknown field"),
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
    let expected = Request::SetFirewall {
        group: None,
        name: "fw1".to_owned(),
        admin: Some(AdminState::Maint),
        reason: None,
        by: "unknown user".to_owned(),
        force: false,
    };
    assert_eq!(*served.fake.asked.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn an_engine_that_stays_silent_is_left_after_a_while() {
    let served = serve(vec![]);
    let client = served.client.clone().timeout(Duration::from_millis(50));

    let error = client.ask(&Request::Status).await.unwrap_err();

    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn silent_connections_to_a_control_socket_delay_nobody() {
    let served = serve(vec![done()]);
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(UnixStream::connect(&served.socket).await.unwrap());
    }

    let answer = served.client.clone().timeout(Duration::from_secs(3)).ask_json(&Request::Status).await;

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
    let error = missing.ask(&Request::Status).await.unwrap_err();
    assert!(matches!(error, ClientError::NoSocket { .. }), "{error:?}");

    let path = directory.path().join("dead.sock");
    drop(UnixListener::bind(&path).unwrap());
    let error = Client::new(path).ask(&Request::Status).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");

    let path = directory.path().join("foreign.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();
    });
    let error = Client::new(path).ask(&Request::Status).await.unwrap_err();
    // It is a race whether its text or its end arrives first.
    assert!(matches!(error, ClientError::Garbled { .. } | ClientError::BrokenOff { .. }), "{error:?}");
}
