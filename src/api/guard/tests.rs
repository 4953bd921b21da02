use super::*;
use crate::config::Secret;

const VIEWER: &str = "a viewer's secret of some length";
const OPERATOR: &str = "an-operator's-secret-of-some-length";

fn guard(listen: &str) -> Guard {
    let token = |name: &str, role, secret: &str| Token { name: name.into(), role, secret: Secret::new(secret.into()) };
    let tokens = vec![token("grafana", Role::Viewer, VIEWER), token("ansible", Role::Operator, OPERATOR)];
    let listen: SocketAddr = listen.parse().unwrap();
    Guard::new(listen, !listen.ip().is_loopback(), tokens)
}

/// `Ok` with the caller's name and whether he may change anything; `Err` with the HTTP status.
fn admit(guard: &Guard, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<(String, bool), u16> {
    let headers = headers.iter().map(|(name, value)| {
        (header::HeaderName::from_bytes(name.as_bytes()).unwrap(), header::HeaderValue::from_str(value).unwrap())
    });
    let admitted = guard.admit(&method.parse().unwrap(), path, &headers.collect());
    admitted.map(|caller| (caller.by(Some("said")), caller.may_change())).map_err(|no| no.status.as_u16())
}

fn bearer(secret: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {secret}"))
}

/// The recorded name of somebody without a token who claims to be "said".
const ANONYMOUS: &str = "unknown user, claimed name \"said\"";

#[test]
fn loopback_is_read_by_everybody_and_changed_by_operators() {
    let guard = guard("127.0.0.1:9600");
    let (_, viewer) = bearer(VIEWER);
    let (_, operator) = bearer(OPERATOR);
    let host = ("host", "127.0.0.1:9600");
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<(&'a str, bool), u16>);
    let cases: &[Case<'_>] = &[
        ("GET", &[host], Ok((ANONYMOUS, false))),
        ("HEAD", &[host], Ok((ANONYMOUS, false))),
        ("PUT", &[host], Err(401)),
        ("POST", &[host], Err(401)),
        ("DELETE", &[host], Err(401)),
        ("GET", &[host, ("authorization", &viewer)], Ok(("grafana", false))),
        ("PUT", &[host, ("authorization", &viewer)], Err(403)),
        ("PUT", &[host, ("authorization", &operator)], Ok(("ansible", true))),
        ("PUT", &[host, ("authorization", &operator.to_uppercase())], Err(401)),
        ("GET", &[host, ("authorization", "Bearer ")], Err(401)),
        ("GET", &[host, ("authorization", "Bearer a viewer's secret of some lengt")], Err(401)),
        ("GET", &[host, ("authorization", "Basic YTpi")], Err(401)),
        ("GET", &[host, ("authorization", "x")], Err(401)),
    ];
    for (method, headers, expected) in cases {
        let expected = expected.map(|(by, may)| (by.to_owned(), may));
        assert_eq!(admit(&guard, method, "/api/v1/status", headers), expected, "{method} {headers:?}");
    }
}

#[test]
fn beyond_loopback_everything_but_the_page_needs_a_token() {
    let guard = guard("192.0.2.1:9600");
    let (_, viewer) = bearer(VIEWER);
    let host = ("host", "fwlb.example.com:9600");

    for path in ["/api/v1/status", "/api", "/metrics", "/api/v1/openapi.json"] {
        assert_eq!(admit(&guard, "GET", path, &[host]), Err(401), "{path}");
        let known = admit(&guard, "GET", path, &[host, ("authorization", &viewer)]);
        assert_eq!(known, Ok(("grafana".to_owned(), false)), "{path}");
    }
    for path in ["/", "/style.css", "/favicon.ico"] {
        assert!(admit(&guard, "GET", path, &[host]).is_ok(), "{path}");
    }
    assert_eq!(admit(&guard, "POST", "/", &[host]), Err(401));
}

#[test]
fn a_name_that_is_not_the_machines_own_gets_no_answer_from_loopback() {
    let guard = guard("127.0.0.1:9600");
    let (_, viewer) = bearer(VIEWER);
    for own in ["127.0.0.1:9600", "127.0.0.1", "localhost", "LOCALHOST:9600", "[::1]:9600", "[::1]"] {
        assert!(admit(&guard, "GET", "/metrics", &[("host", own)]).is_ok(), "{own}");
    }
    for foreign in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:9600",
        "",
        "[::1].evil.example",
        "[::1",
        "::1",
    ] {
        assert_eq!(admit(&guard, "GET", "/metrics", &[("host", foreign)]), Err(403), "{foreign:?}");
        let known = admit(&guard, "GET", "/metrics", &[("host", foreign), ("authorization", &viewer)]);
        assert!(known.is_ok(), "a page that was rebound has no token: {foreign:?}");
    }
    assert_eq!(admit(&guard, "GET", "/metrics", &[]), Err(400));
}

#[test]
fn pages_of_other_sites_are_refused_and_links_to_the_page_are_not() {
    let (loopback, beyond) = (guard("127.0.0.1:9600"), guard("192.0.2.1:9600"));
    let host = ("host", "127.0.0.1:9600");
    let (_, operator) = bearer(OPERATOR);
    let origin = |origin: &str| admit(&loopback, "GET", "/api/v1/status", &[host, ("origin", origin)]);
    assert!(origin("http://127.0.0.1:9600").is_ok());
    for foreign in ["http://evil.example", "null", "https://127.0.0.1:9600", "http://127.0.0.1:9601", ""] {
        assert_eq!(origin(foreign), Err(403), "{foreign:?}");
        let with_token = [host, ("origin", foreign), ("authorization", operator.as_str())];
        assert_eq!(admit(&loopback, "PUT", "/api/v1/status", &with_token), Err(403), "{foreign:?}");
    }
    let secure = [("host", "fw.example"), ("origin", "https://fw.example"), ("authorization", operator.as_str())];
    assert!(admit(&beyond, "PUT", "/api/v1/status", &secure).is_ok());

    let fetch = |site, mode| {
        admit(&loopback, "GET", "/", &[host, ("sec-fetch-site", site), ("sec-fetch-mode", mode)]).map(|_| ())
    };
    assert_eq!(fetch("cross-site", "no-cors"), Err(403));
    assert_eq!(fetch("cross-site", "navigate"), Ok(()));
    assert_eq!(fetch("same-origin", "cors"), Ok(()));
}

#[test]
fn who_did_it_is_the_kernels_word_and_a_claim_stands_beside_it_as_one() {
    let user = |name: Option<&str>, login: Option<&str>| {
        Caller::Socket(Some(User { uid: 0, name: name.map(str::to_owned), login: login.map(str::to_owned) }))
    };
    let root = user(Some("root"), None);
    assert_eq!(root.by(None), "root (uid 0)");
    assert_eq!(root.by(Some("root")), "root (uid 0)");
    assert_eq!(root.by(Some("")), "root (uid 0)");
    assert_eq!(root.by(Some("the great boss")), "root (uid 0), claimed name \"the great boss\"");
    assert_eq!(user(Some("root"), Some("anna")).by(Some("anna")), "root (uid 0, login anna)");
    assert_eq!(user(None, Some("uid 1000")).by(None), "uid 0 (login uid 1000)");

    // No claim looks like a known name, or makes a line of its own.
    let forged = root.by(Some("x\", root (uid 0)\nadmin"));
    assert_eq!(forged, r#"root (uid 0), claimed name "x\", root (uid 0)\nadmin""#);
    assert_eq!(root.by(Some(&"x".repeat(500))).len(), "root (uid 0), claimed name \"\"".len() + CLAIM_MAX);
    assert_eq!(Caller::Socket(None).by(Some("eve")), "unknown user, claimed name \"eve\"");
    let token = Caller::Token { name: "ansible".into(), role: Role::Operator };
    assert_eq!(token.by(Some("eve")), "ansible");
}
