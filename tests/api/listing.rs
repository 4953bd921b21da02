//! Long lists of sessions: totals, pages, and whole lists, over the network and the control socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use fwlb::api::listen::{Access, Limits, serve, serve_socket};
use fwlb::api::{Answer, ApiError, Backend, Cursor, Engines, Request, SessionPage, SessionRequest, router};
use fwlb::client::Client;
use fwlb::engine::view::SessionView;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// An engine with this many sessions, in places 0, 1, 2, ...
struct Many {
    name: &'static str,
    sessions: usize,
    /// The size of the largest page that was requested.
    longest: AtomicUsize,
    /// Pages from here on get no answer.
    breaks_at: usize,
}

impl Backend for Many {
    fn engine(&self) -> &str {
        self.name
    }

    async fn ask(self: Arc<Self>, request: Request) -> Result<Answer, ApiError> {
        let Request::Sessions(SessionRequest { limit, after, .. }) = request else { panic!("{request:?}") };
        let from = after.as_ref().map_or(0, |after| after.of(self.name).expect("not asked any more") as usize);
        if from >= self.breaks_at {
            return Err(ApiError::Unavailable("stopping".to_owned()));
        }
        let limit = limit.unwrap_or(1000);
        self.longest.fetch_max(limit, Ordering::Relaxed);
        let end = self.sessions.min(from + limit);
        Ok(Answer::Sessions(SessionPage {
            rows: (from..end).map(|number| self.session(number)).collect(),
            total: after.is_none().then_some(self.sessions as u64),
            next: (end < self.sessions).then(|| Cursor::at(self.name, end as u32)),
        }))
    }
}

impl Many {
    fn new(name: &'static str, sessions: usize) -> Arc<Self> {
        Arc::new(Self { name, sessions, longest: AtomicUsize::new(0), breaks_at: usize::MAX })
    }

    fn session(&self, number: usize) -> SessionView {
        let view = json!({"engine": self.name, "protocol": "udp", "source": format!("198.51.100.7:{number}"),
            "destination": "203.0.113.80:53", "pins": [], "state": "two-way", "age_ms": 1, "idle_ms": 2,
            "expires_ms": 3, "packets": 4, "bytes": 5});
        serde_json::from_value(view).unwrap()
    }
}

async fn served(engines: Vec<Arc<Many>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let access = Access::new("127.0.0.1:9600".parse().unwrap(), None, Vec::new()).unwrap();
    let access = Arc::new(ArcSwap::from_pointee(access));
    tokio::spawn(serve(listener, Arc::new(Engines::new(engines)), access, Limits::default()));
    address
}

/// Head and body of an answer as received, chunked or not.
async fn get(address: SocketAddr, uri: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {uri} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer.split_off(end + 4))
}

/// The rows of an answer, and the value of the header `name`.
async fn rows(address: SocketAddr, uri: &str) -> (Vec<Value>, String) {
    let (head, body) = get(address, uri).await;
    let body = if head.contains("transfer-encoding: chunked") { unchunked(&body).expect("whole") } else { body };
    (serde_json::from_slice(&body).unwrap(), head)
}

/// The bytes of a chunked body (RFC 9112 section 7.1); `None` if its end is missing.
fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|bytes| bytes == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(line + 2..line + 2 + length)?);
        body = &body[line + 2 + length + 2..];
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn a_list_says_how_many_there_are_and_its_link_leads_through_all_of_them() {
    let address = served(vec![Many::new("outer", 2849), Many::new("inner", 1200)]).await;
    let mut seen = Vec::new();
    let mut uri = "/api/v1/sessions?state=two-way".to_owned();
    let mut totals = Vec::new();
    loop {
        let (rows, head) = rows(address, &uri).await;
        seen.extend(rows.iter().map(|row| format!("{} {}", row["engine"], row["source"])));
        totals.push(header(&head, "x-total-count").map(str::to_owned));
        let Some(link) = header(&head, "link") else { break };
        let (target, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert_eq!(rest, "; rel=\"next\"");
        assert!(target.contains("state=two-way"), "the same question: {target}");
        uri = target.to_owned();
    }
    assert_eq!(totals, [Some("4049".to_owned()), None, None]);
    assert_eq!(seen.len(), 4049);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4049, "nobody twice");
}

#[tokio::test]
async fn all_of_them_are_told_as_they_are_found_in_pieces() {
    let engines = vec![Many::new("outer", 25_000), Many::new("inner", 7)];
    let address = served(engines.clone()).await;

    let (all, head) = rows(address, "/api/v1/sessions?limit=0").await;
    let (many, _) = rows(address, "/api/v1/sessions?limit=12345&engine=outer").await;
    let (none, _) = rows(served(vec![Many::new("outer", 0)]).await, "/api/v1/sessions?limit=0").await;

    assert_eq!((all.len(), header(&head, "x-total-count")), (25_007, Some("25007")));
    assert!(header(&head, "content-type").unwrap().contains("application/json"));
    assert_eq!((many.len(), none.len()), (12_345, 0));
    assert!(engines[0].longest.load(Ordering::Relaxed) <= 1000, "an engine is asked for little at once");
}

#[tokio::test]
async fn a_list_that_breaks_off_is_not_taken_for_a_whole_one() {
    let breaks = Many { breaks_at: 2000, ..Arc::into_inner(Many::new("outer", 5000)).unwrap() };
    let address = served(vec![Arc::new(breaks)]).await;
    let (head, body) = get(address, "/api/v1/sessions?limit=0").await;
    assert!(head.contains("200 ok") && unchunked(&body).is_none(), "{head}");

    let never = Many { breaks_at: 0, ..Arc::into_inner(Many::new("outer", 5000)).unwrap() };
    let (head, _) = get(served(vec![Arc::new(never)]).await, "/api/v1/sessions?limit=0").await;
    assert!(head.contains("503"), "what is wrong at once is said: {head}");
}

#[tokio::test]
async fn the_client_is_told_how_many_there_are_and_where_to_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outer.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(serve_socket(listener, router(Many::new("outer", 1500)), |_| None, Limits::of_socket()));
    let client = Client::new(&path);
    let ask = async |after| {
        let question = SessionRequest { after, ..SessionRequest::default() };
        client.ask(&question).await.unwrap()
    };

    let first = ask(None).await;
    let second = ask(first.next.clone()).await;

    assert_eq!((first.rows.len(), first.total, first.next), (1000, Some(1500), Some(Cursor::at("outer", 1000))));
    assert_eq!((second.rows.len(), second.total, second.next), (500, None, None));
}
