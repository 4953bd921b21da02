//! `[api] listen` over real TCP: who has access, which engine answers, and how misbehaving clients are treated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fwlb::api::listen::{Access, Limits, serve};
use fwlb::api::{Answer, ApiError, Backend, Done, Engines, Request, calls};
use fwlb::config::{Role, Secret, Tls, Token};
use fwlb::engine::view;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const OPERATOR: &str = "0123456789abcdef-operator";
const VIEWER: &str = "0123456789abcdef-viewer";
const CERTIFICATE: &str = include_str!("../data/api.crt");
const KEY: &str = include_str!("../data/api.key");

/// An engine with one firewall, which reports who changed it.
struct Engine {
    name: &'static str,
    firewall: &'static str,
}

impl Backend for Engine {
    fn engine(&self) -> &str {
        self.name
    }

    async fn ask(self: Arc<Self>, request: Request) -> Result<Answer, ApiError> {
        match request {
            Request::Peers(_) => Ok(Answer::Peers(vec![view::PeerView {
                engine: self.name.into(),
                name: "other".into(),
                group: "perimeter".into(),
                peer_engine: None,
                state: view::PeerState::Up.into(),
                digest: view::DigestState::Same.into(),
                version: None,
                since_ms: 1,
                reason: None,
                engines: vec![],
            }])),
            Request::Config(_) => Ok(Answer::Config(view::ConfigView { text: "x".repeat(16 << 20), settings: None })),
            Request::Counters(_) => Ok(Answer::Counters([("received".to_owned(), 7)].into())),
            Request::SetFirewall(calls::SetFirewall { name, by, .. }) if name == self.firewall => {
                Ok(Answer::SetFirewall(Done::from(format!("{name} by {}", by.expect("the caller")))))
            }
            Request::SetFirewall(calls::SetFirewall { name, .. }) => {
                Err(ApiError::NotFound(format!("no firewall {name:?}")))
            }
            Request::Events(_) => std::future::pending().await,
            other => panic!("nobody asks for {other:?} here"),
        }
    }
}

/// Serves an outer and an inner engine with this `[api]`, on a free port of loopback.
async fn served(listen: &str, tls: bool) -> SocketAddr {
    served_within(listen, tls, Limits::default()).await
}

async fn served_within(listen: &str, tls: bool, limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = |name: &str, role, secret: &str| Token { name: name.into(), role, secret: Secret::new(secret.into()) };
    let tokens = vec![token("ansible", Role::Operator, OPERATOR), token("grafana", Role::Viewer, VIEWER)];
    let tls = tls.then(|| Tls { certificate: CERTIFICATE.into(), key: Secret::new(KEY.into()) });
    let access = Access::new(listen.parse().unwrap(), tls.as_ref(), tokens).unwrap();
    let engines =
        vec![Engine { name: "outer", firewall: "fw1" }, Engine { name: "inner", firewall: "fw2" }].into_iter();
    let engines = Engines::new(engines.map(Arc::new).collect());
    tokio::spawn(serve(listener, Arc::new(engines), Arc::new(ArcSwap::from_pointee(access)), limits));
    address
}

/// Sends raw bytes, and returns status, head and body of the answer.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> (u16, String, Value) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), serde_json::from_str(body).unwrap())
}

fn request(method: &str, uri: &str, token: Option<&str>, body: &str) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "{method} {uri} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(super) async fn ask(
    to: SocketAddr,
    method: &str,
    uri: &str,
    token: Option<&str>,
    body: &str,
) -> (u16, String, Value) {
    exchange(TcpStream::connect(to).await.unwrap(), &request(method, uri, token, body)).await
}

#[tokio::test]
async fn what_may_be_asked_is_told_where_it_may_be_read() {
    let address = served("127.0.0.1:9600", false).await;
    let remote = served("192.0.2.1:9600", false).await;

    let (status, head, document) = ask(address, "GET", "/api/v1/openapi.json", None, "").await;
    let (nobody, _, _) = ask(remote, "GET", "/api/v1/openapi.json", None, "").await;
    let (viewer, _, same) = ask(remote, "GET", "/api/v1/openapi.json", Some(VIEWER), "").await;

    assert_eq!((status, nobody, viewer), (200, 401, 200));
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(document, same);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn one_address_serves_all_engines_and_each_by_its_name() {
    let address = served("127.0.0.1:9600", false).await;

    let (status, head, both) = ask(address, "GET", "/api/v1/peers", None, "").await;
    let (_, _, inner) = ask(address, "GET", "/api/v1/peers?engine=inner", None, "").await;
    let (unnamed, _, why) = ask(address, "GET", "/api/v1/counters", None, "").await;
    let (named, _, counters) = ask(address, "GET", "/api/v1/counters?engine=outer", None, "").await;
    let (unknown, _, who) = ask(address, "GET", "/api/v1/peers?engine=middle", None, "").await;

    assert_eq!((status, both[0]["engine"].as_str(), both[1]["engine"].as_str()), (200, Some("outer"), Some("inner")));
    assert!(head.contains("content-security-policy: default-src 'none'") && head.contains("nosniff"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert_eq!((inner.as_array().unwrap().len(), &inner[0]["engine"]), (1, &json!("inner")));
    assert_eq!((named, counters), (200, json!({ "received": 7 })));
    assert_eq!((unnamed, unknown), (400, 404));
    assert!(why["message"].as_str().unwrap().contains("?engine=") && who["message"].to_string().contains("outer"));
}

#[tokio::test]
async fn an_operator_changes_under_the_name_of_the_token_and_nobody_else_does() {
    let address = served("127.0.0.1:9600", false).await;
    let body = r#"{"name":"fw2","admin":"drain","by":"somebody else"}"#;
    let put = |token| ask(address, "PUT", "/api/v1/firewalls/admin", token, body);

    let (anonymous, head, _) = put(None).await;
    let (wrong, _, _) = put(Some("0123456789abcdef-operatoR")).await;
    let (viewer, _, _) = put(Some(VIEWER)).await;
    let (operator, _, done) = put(Some(OPERATOR)).await;
    let (nobodys, _, _) =
        ask(address, "PUT", "/api/v1/firewalls/admin", Some(OPERATOR), r#"{"name":"fw3","admin":"drain"}"#).await;

    assert_eq!((anonymous, wrong, viewer, operator, nobodys), (401, 401, 403, 200, 404));
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    assert_eq!(
        done,
        json!({ "done": "inner: fw2 by ansible", "held": [], "warnings": [] }),
        "the engine that knows the firewall did it"
    );
}

#[tokio::test]
async fn beyond_loopback_it_is_https_with_a_token() {
    let address = served("192.0.2.1:9600", true).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connect = || async {
        let stream = TcpStream::connect(address).await.unwrap();
        connector.connect(ServerName::try_from("fwlb.test").unwrap(), stream).await.unwrap()
    };

    let (unknown, _, _) = exchange(connect().await, &request("GET", "/api/v1/peers", None, "")).await;
    let (viewer, _, peers) = exchange(connect().await, &request("GET", "/api/v1/peers", Some(VIEWER), "")).await;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(request("GET", "/api/v1/peers", Some(VIEWER), "").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;

    assert_eq!((unknown, viewer, peers.as_array().unwrap().len()), (401, 200, 2));
    assert!(!bytes.starts_with(b"HTTP"), "nothing in the clear: {bytes:?}");
}

#[tokio::test]
async fn large_heads_and_bodies_are_refused_in_time_and_the_next_client_is_served() {
    let address = served("127.0.0.1:9600", false).await;
    let mut large = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /api/v1/peers HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let _ = large.write_all(head.as_bytes()).await;
    let mut answer = String::new();
    let _ = large.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");

    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(70_000));
    let (status, _, _) = ask(address, "PUT", "/api/v1/firewalls/admin", Some(OPERATOR), &body).await;
    assert_eq!(status, 400);
    let (status, _, _) = ask(address, "GET", "/api/v1/peers", None, "").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn slow_clients_and_slow_engines_are_left_after_a_while() {
    let moment = Duration::from_millis(300);
    let limits = Limits { handshake: moment, head: moment, answer: moment, stall: moment, ..Limits::default() };
    let address = served_within("127.0.0.1:9600", false, limits).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(HALF).await.unwrap();
        slow.push(stream);
    }
    let mut greedy = TcpStream::connect(address).await.unwrap();
    greedy.write_all(b"GET /api/v1/config?engine=outer HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();

    let (served, _, _) = ask(address, "GET", "/api/v1/peers", None, "").await;
    let (late, _, _) = ask(address, "GET", "/api/v1/events?engine=outer", None, "").await;

    assert_eq!((served, late), (200, 408));
    for mut stream in slow {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "still open");
    }
    // 16 MiB do not fit the buffers of a client that reads nothing; after a while the connection is closed.
    tokio::time::sleep(5 * moment).await;
    let mut all = Vec::new();
    let _ = greedy.read_to_end(&mut all).await;
    assert!(all.len() < 16 << 20, "{} bytes came", all.len());
}

/// The first half of a request.
const HALF: &[u8] = b"GET /api/v1/peers HTTP/1.1\r\nHost: loc";

/// Far less than the timeouts of [`Limits::default`], far more than an answer takes.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Connects from this address of loopback.
async fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn half_requests_and_silent_connections_delay_nobody() {
    let address = served("127.0.0.1:9600", false).await;
    for (opened, first_words) in [(64, HALF), (1000, b"".as_slice())] {
        let mut held = Vec::new();
        for _ in 0..opened {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // This fails if the connection was closed in favour of a later one.
            let _ = stream.write_all(first_words).await;
            held.push(stream);
        }

        let same = tokio::time::timeout(AT_ONCE, ask(address, "GET", "/api/v1/peers", None, "")).await;
        let stream = connect_from("127.0.0.2", address).await;
        let other = tokio::time::timeout(AT_ONCE, exchange(stream, &request("GET", "/api/v1/peers", None, ""))).await;

        assert_eq!(same.map(|(status, _, _)| status), Ok(200), "from the same address, {opened} connections");
        assert_eq!(other.map(|(status, _, _)| status), Ok(200), "from another address, {opened} connections");
    }
}

#[tokio::test]
async fn one_address_cannot_take_the_room_of_the_others_and_what_is_being_answered_is_not_cut() {
    let limits = Limits { connections: 8, per_origin: 4, ..Limits::default() };
    let address = served_within("127.0.0.1:9600", false, limits).await;
    // These requests are never answered, so that their connections stay busy.
    let pending = request("GET", "/api/v1/events?engine=outer", None, "");
    let mut busy = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(pending.as_bytes()).await.unwrap();
        busy.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;

    let mut fifth = TcpStream::connect(address).await.unwrap();
    let _ = fifth.write_all(request("GET", "/api/v1/peers", None, "").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(AT_ONCE, fifth.read_to_end(&mut answer)).await.expect("refused at once");
    for from in ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"] {
        let stream = connect_from(from, address).await;
        let other = tokio::time::timeout(AT_ONCE, exchange(stream, &request("GET", "/api/v1/peers", None, ""))).await;
        assert_eq!(other.map(|(status, _, _)| status), Ok(200), "{from}");
    }

    assert_eq!(answer, b"", "an address that has all it may have is refused");
    for stream in &busy {
        let mut byte = [0];
        let end = stream.try_read(&mut byte).map_err(|error| error.kind());
        assert_eq!(end, Err(std::io::ErrorKind::WouldBlock), "still open and waiting");
    }
}
