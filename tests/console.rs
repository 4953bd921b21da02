//! Tests the web console in a real browser, with fake engines.

#[path = "console/browser.rs"]
mod browser;
#[path = "console/nodes.rs"]
mod nodes;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fwlb::api::listen::{self, Access, Limits};
use fwlb::api::{Answer, ApiError, Backend, CaptureRequest, Download, Engines, Request};
use fwlb::config::Token;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

/// An engine of a sandwich with a fixed state.
struct Frozen(&'static str);

impl Frozen {
    fn told(&self, request: &Request) -> Value {
        let outer = self.0 == "outer";
        match request {
            Request::Status(_) => json!({
                "name": self.0, "version": "0.1.0", "uptime_ms": 7_440_000, "epoch": 3, "config_digest": "abc",
                "workers": 1, "sessions": 42, "capacity": 1000, "role": "active", "overrides": [],
                "alarms": if outer { json!([]) } else { json!([{
                    "kind": "digest_differs", "subject": "perimeter/outer", "reason": "weights differ", "since_ms": 900,
                }]) },
            }),
            Request::Firewalls(_) => {
                json!([self.firewall("fw1", "up", Value::Null), self.firewall("fw2", "down", json!("<b>dead</b> leg"))])
            }
            Request::Services(_) if outer => json!([]),
            Request::Services(_) => json!([{
                "engine": self.0, "name": "web", "addresses": ["203.0.113.80", "2001:db8:113::80"], "protocols": ["tcp"],
                "ports": ["80"], "scheduler": "round-robin", "mode": "nat", "state": "up", "admin": "ready",
                "override": null, "sessions": 3, "imbalance": null,
                "servers": [self.server("s1", "up", Value::Null), self.server("s2", "down", json!("HTTP 503, expected 200"))],
            }]),
            Request::Links(_) => json!([{
                "engine": self.0, "name": "clients", "device": "eth0", "vlan": 100, "state": "up",
                "mac": "02:00:00:00:00:01", "mtu": 1500, "addresses": [], "rx_packets": 5, "rx_bytes": 500,
                "rx_dropped": 0, "ring_dropped": 17, "tx_packets": 0, "tx_bytes": 0, "tx_errors": 0,
            }]),
            Request::Peers(_) | Request::Ha(_) => json!([]),
            Request::Counters(_) => json!({"received": 10, "dropped": 7, "drop_ttl_expired": 7, "drop_no_route": 0}),
            Request::Events(filter) if filter.after > 0 => json!([]),
            Request::Events(_) => json!([{
                "seq": 1, "at": "2026-01-02T03:04:05Z", "kind": "firewall", "subject": "perimeter/fw2", "from": "up",
                "to": "down", "reason": "no answer", "by": null,
            }]),
            other => panic!("the page asks for nothing else at first: {other:?}"),
        }
    }

    fn firewall(&self, name: &str, state: &str, reason: Value) -> Value {
        json!({
            "engine": self.0, "name": name, "group": "perimeter", "link": "firewalls", "addresses": ["10.1.0.11"],
            "state": state, "admin": "ready", "override": null, "weight": 1, "spare": false, "sessions": 21,
            "new_sessions": 21, "packets": 100, "bytes": 1000, "since_ms": 61_000, "reason": reason,
            "checks": [{"peer": "inner", "family": "ipv4", "state": state, "rtt_us": 312, "since_ms": 0, "reason": null}],
        })
    }

    fn server(&self, name: &str, state: &str, reason: Value) -> Value {
        json!({
            "name": name, "addresses": [format!("10.2.0.{}", name.len())], "port": 8080, "backup": false, "state": state,
            "admin": "ready", "override": null, "weight": 1, "weight_override": null, "sessions": 2, "new_sessions": 2,
            "packets": 0, "bytes": 0, "since_ms": 5000, "reason": reason, "checks": [],
        })
    }
}

impl Backend for Frozen {
    fn engine(&self) -> &str {
        self.0
    }

    async fn ask(self: Arc<Self>, request: Request) -> Result<Answer, ApiError> {
        let told = self.told(&request);
        Ok(Answer::from_json(&request, told).expect("an answer to this request"))
    }

    fn capture(&self, _: CaptureRequest) -> Result<Download, ApiError> {
        Err(ApiError::Unavailable("nothing moves here".to_owned()))
    }

    fn end_capture(&self, id: &str) -> Result<(), ApiError> {
        Err(ApiError::NotFound(format!("no capture {id:?}")))
    }
}

/// Serves these engines to the holders of `tokens`, and to everybody for reading; returns the address.
async fn serve<B: Backend>(engines: Vec<Arc<B>>, tokens: Vec<Token>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let access = Arc::new(ArcSwap::from_pointee(Access::new(address, None, tokens).expect("no certificate needed")));
    tokio::spawn(listen::serve(listener, Arc::new(Engines::new(engines)), access, Limits::default()));
    address
}

/// The page as the browser shows it after some rounds of requests, and the browser's error output.
async fn page_of<B: Backend>(engines: Vec<Arc<B>>) -> (String, String) {
    let address = serve(engines, Vec::new()).await;
    let profile = tempfile::tempdir().expect("a directory");
    let browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"])
        .args(["--virtual-time-budget=7000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{address}/"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(90), browser).await.expect("the browser ends by itself");
    let output = output.expect("chromium is installed: apt-get install chromium");
    let complaints = String::from_utf8_lossy(&output.stderr);
    let complaints = complaints.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
    (String::from_utf8_lossy(&output.stdout).into_owned(), complaints)
}

/// The text between the tags.
fn text_of(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for letter in html.chars() {
        match letter {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            _ if !inside => text.push(letter),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_whole_sandwich() {
    let (html, complaints) = page_of(vec![Arc::new(Frozen("outer")), Arc::new(Frozen("inner"))]).await;

    assert_eq!(complaints, "");
    assert!(html.contains("data-ready=\"yes\""), "the page never got its answers: {html}");
    let text = text_of(&html);
    for expected in [
        "outer active, up 2h4m, 42 sessions (4.2 %), 0.1.0",
        "inner: digest_differs perimeter/outer for 900ms: weights differ",
        // The diagram: clients, outer, firewalls, inner, servers.
        "clients",
        "fw2 down 1m1s",
        "outer perimeter/fw1 up ready 1 21",
        // Whatever an engine returns is shown as text, not interpreted as HTML.
        "&lt;b&gt;dead&lt;/b&gt; leg",
        "203.0.113.80:80 [2001:db8:113::80]:80",
        "HTTP 503, expected 200",
        "eth0.100",
        // The counter has the name that `fwlb show counters` prints.
        "drop_ttl_expired",
        "Read-only without an operator's token.",
        "firewall perimeter/fw2 up \u{2192} down",
        "live",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(!text.contains("no_route"), "what did not happen is not shown: {text}");
    assert!(!text.contains("Drain"), "without a token nothing can be changed: {text}");
    assert!(!html.contains("<th class=\"\"></th>") && !html.contains("<th></th>"), "a column without a title: {html}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_one_engine_names_no_engine_in_its_tables() {
    let (html, complaints) = page_of(vec![Arc::new(Frozen("inner"))]).await;

    assert_eq!(complaints, "");
    let text = text_of(&html);
    assert!(text.contains("perimeter/fw1 up ready"), "{text}");
    assert!(!text.contains("inner perimeter/fw1"), "{text}");
}
