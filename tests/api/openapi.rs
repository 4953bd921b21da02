//! Compares the OpenAPI document with what the router does.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fwlb::api::listen::{self, Access, Limits};
use fwlb::api::{
    Answer, ApiError, CaptureRequest, Engines, HttpCall, Request, SessionFilter, SessionSort, TalkerRequest,
};
use fwlb::api::{Done, TalkersBy, calls, flow_text};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use crate::metrics::measured;
use crate::schema::{faults, resolve};
use crate::{Fake, Served, done, every_request, get, network, serve};

pub async fn document() -> Value {
    let (status, document) = get(&serve(vec![]), "/api/v1/openapi.json").await;
    assert_eq!(status, 200);
    document
}

/// The description of a call in the document.
fn operation<'a>(document: &'a Value, call: &HttpCall) -> &'a Value {
    let path = call.uri.split('?').next().unwrap();
    let operation = &document["paths"][path][call.method.to_lowercase()];
    assert!(operation.is_object(), "{} {path} is not described", call.method);
    operation
}

/// The schema of the answer to a request.
fn answered<'a>(document: &'a Value, request: &Request) -> &'a Value {
    &operation(document, &request.http())["responses"]["200"]["content"]["application/json"]["schema"]
}

/// The status of an answer.
async fn status(served: &Served, verb: &str, path: &str) -> u16 {
    let mut stream = UnixStream::connect(&served.socket).await.unwrap();
    let head = "Host: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2";
    stream.write_all(format!("{verb} {path} HTTP/1.1\r\n{head}\r\n\r\n{{}}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn exactly_what_is_described_is_routed() {
    let document = document().await;
    let paths = document["paths"].as_object().unwrap();
    let served = serve((0..100).map(|_| done()).collect());

    assert!(paths.len() > 15, "{:?}", paths.keys());
    for (path, item) in paths {
        for verb in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let status = status(&served, verb, path).await;
            let described = item.get(verb.to_lowercase()).is_some();
            // None of these requests may fail as not found: the engine of the test answers everything, and the call
            // that ends a capture lacks its name.
            assert_eq!(status != 405, described, "{verb} {path}: {status}");
            assert_ne!(status, 404, "{verb} {path}");
        }
    }
}

#[tokio::test]
async fn everything_that_a_client_can_ask_is_described_with_its_query_and_body() {
    let document = document().await;
    let captures = [CaptureRequest::default().call(), CaptureRequest::end("x")];
    let calls = every_request().iter().map(Request::http).chain(captures).collect::<Vec<_>>();

    for call in calls {
        let operation = operation(&document, &call);
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let names: BTreeSet<_> = parameters.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        let (_, query) = call.uri.split_once('?').unwrap_or_default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            assert!(names.contains(pair.split('=').next().unwrap()), "{}: {names:?}", call.uri);
        }
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        match &call.body {
            Some(body) => {
                assert_eq!(faults(&document, schema, &serde_json::from_str(body).unwrap()), [""; 0], "{}", call.uri);
            }
            None => assert!(schema.is_null(), "{}", call.uri),
        }
        let may_read = operation["security"].is_null();
        assert_eq!(may_read, call.method == "GET", "{} is for operators alone", call.uri);
    }
}

#[tokio::test]
async fn the_document_is_whole() {
    let document = document().await;

    assert_eq!(document["openapi"], "3.1.0");
    let mut seen = 0;
    let mut names = BTreeSet::new();
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                    assert!(resolve(&document, reference).is_some(), "{reference} leads nowhere");
                    seen += 1;
                }
                if let Some(name) = object.get("operationId").and_then(Value::as_str) {
                    assert!(names.insert(name), "{name} twice");
                }
                left.extend(object.values());
            }
            Value::Array(list) => left.extend(list),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(seen > 100, "{seen} references");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{name} has no words");
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let said = property["description"].is_string() || property["oneOf"][0]["description"].is_string();
            assert!(said, "{name}.{key} has no words: {property}");
        }
    }
}

/// An answer made from these keys; keys that are left out are null or empty.
fn view<T: DeserializeOwned>(keys: Value) -> T {
    serde_json::from_value(keys).unwrap()
}

/// An answer to each request, with all optional parts and with as few as possible.
fn examples() -> Vec<(Request, Answer)> {
    let measured = measured();
    let pin = json!({"group": "perimeter", "firewall": "fw1", "pinned_by": "hash", "state": "confirmed",
        "toward": "source"});
    let session = json!({"engine": "outer", "protocol": "tcp", "source": "198.51.100.7:40000",
        "destination": "203.0.113.80:80", "pins": [], "state": "opening", "age_ms": 1, "idle_ms": 2, "expires_ms": 3,
        "packets": 4, "bytes": 5});
    let mut whole = session.clone();
    for (key, value) in [
        ("identifier", json!(7)),
        ("pins", json!([pin])),
        ("service", json!("web")),
        ("server", json!("s1")),
        ("translated_source", json!("10.0.0.1:1")),
        ("translated_destination", json!("10.0.0.2:2")),
        ("tunnel", json!("10.0.0.3")),
        ("packets_per_second", json!(8)),
        ("bits_per_second", json!(9)),
    ] {
        whole[key] = value;
    }
    let explained = json!({"engine": "outer", "flow": "tcp 198.51.100.7:40000 203.0.113.80:80", "from": "clients",
        "decided_by": "drop", "pins": [], "candidates": [], "story": []});
    let mut explained_whole = explained.clone();
    for (key, value) in [
        ("firewall", json!("perimeter/fw1")),
        ("peer", json!("inner")),
        ("pins", json!([pin])),
        ("candidates", json!([{"name": "fw1", "state": "up", "weight": 1, "score": u64::MAX}])),
        ("service", json!("web")),
        ("server", json!("s1")),
        ("translation", json!("to 10.0.0.2:80")),
        ("egress", json!({"link": "firewalls", "next_hop": "10.1.0.11", "mac": null, "neighbor": "incomplete"})),
        ("drop", json!("drop_standby")),
        ("active_node", json!("outer-b")),
        ("session", json!({"state": "opening", "age_ms": 1, "idle_ms": 2, "expires_ms": 3, "packets": 4})),
        ("servers", json!([{"name": "s1", "state": "up", "weight": 0, "backup": true, "sessions": 3}])),
        (
            "what_if",
            json!([{"kind": "firewall", "name": "perimeter/fw1", "on_failure": "reset", "session": "moves",
            "firewall": "perimeter/fw2"}]),
        ),
        ("story", json!(["It is dropped."])),
    ] {
        explained_whole[key] = value;
    }
    let talker = json!({"engine": "outer", "by": "source", "subject": "198.51.100.7", "sessions": 3, "packets": 9,
        "bytes": 900, "packets_per_second": null, "bits_per_second": null});
    let mut talker_with_rates = talker.clone();
    (talker_with_rates["packets_per_second"], talker_with_rates["bits_per_second"]) = (json!(7), json!(5600));
    let talkers = || {
        let (by, sort) = (TalkersBy::Source, SessionSort::Rate);
        Request::Talkers(TalkerRequest { filter: SessionFilter::default(), by, sort, limit: None })
    };
    let flow = flow_text::parse("tcp 198.51.100.7:40000 203.0.113.80:80").unwrap();
    let explain = || Request::from(calls::Explain { flow, from: None });
    let difference = json!({"subject": "firewall perimeter/fw2", "key": "weight", "from": "1", "to": null});
    let plan = json!({"engine": "outer", "config": "/etc/fwlb/outer.toml", "changes": true, "differences": [difference],
        "diagnostics": "", "possible": true, "sessions": 10, "moved": 1, "healthy_moved": 0,
        "moves": [{"kind": "server", "from": "web/s1", "to": null, "fate": "is reset", "sessions": 1}],
        "new_flows": [{"group": "perimeter", "moved_percent": 33.3, "sample": 1000,
            "firewalls": [{"name": "fw1", "before_percent": 50.0, "after_percent": 100.0}]}]});
    let event = json!({"seq": 1, "at": "2026-01-02T03:04:05Z", "kind": "admin", "subject": "perimeter/fw1"});
    let mut told = event.clone();
    for key in ["from", "to", "reason", "by"] {
        told[key] = json!("x");
    }
    told["lasted_ms"] = json!(u64::MAX >> 1);
    let neighbor = json!({"engine": "outer", "address": "10.1.0.11", "link": "firewalls", "mac": "02:00:00:00:00:01",
        "state": "reachable", "age_ms": 5});
    let unresolved = json!({"engine": "outer", "address": "10.1.0.12", "link": "firewalls", "state": "incomplete"});
    let exchange = json!({"engine": "outer", "subject": "perimeter/fw1", "ok": true, "rtt_us": 250,
        "steps": [{"at_us": 0, "direction": "sent", "what": "echo request"}]});
    let checked = json!({"engine": "inner", "at": "2026-01-02T03:04:05.678Z", "kind": "server", "subject": "web/s1", "peer": null,
        "family": "ipv4", "result": "failed", "times": 1, "duration_us": 500_000, "state": "down", "detail": "no answer"});
    let probed = json!({"engine": "inner", "at": "2026-01-02T03:04:05.678Z", "kind": "firewall", "subject": "perimeter/fw1",
        "peer": "outer", "family": "ipv6", "result": "passed", "times": 7, "duration_us": null, "state": "up", "detail": null});
    let health = json!({"engine": "outer", "healthy": false,
        "problems": [{"kind": "link_down", "subject": "fw", "reason": "link fw (eth1) is down: no carrier"}]});
    let all = json!({"text": "[engine]", "settings": [
        {"subject": "engine", "key": "name", "value": "\"outer\"", "default": false, "means": null},
        {"subject": "engine", "key": "workers", "value": null, "default": true, "means": "one per CPU"}]});
    let kept = json!({"back": 0, "number": 7, "at": "2026-01-02T03:04:05.678Z", "by": "kim", "how": "reload",
        "digest": "0123456789abcdef", "file": "/a", "kept": "/b", "in_force": true, "unconfirmed": false,
        "differences": [difference]});
    let oldest = json!({"back": 1, "number": 6, "at": "2026-01-02T03:04:05.678Z", "by": null, "how": "start",
        "digest": "0123456789abcdef", "file": "/a", "kept": "/b", "in_force": false, "unconfirmed": false,
        "differences": null});
    let waits = json!({"engine": "outer", "config": "/b", "own_config": "/a", "changed": true,
        "differences": [difference], "diagnostics": "", "kept": "/b", "confirm_within_ms": 1000});
    let reload = json!({"engine": "outer", "config": "/a", "own_config": "/a", "changed": true,
        "differences": [difference], "diagnostics": ""});
    let node = json!({"name": "outer-b", "kind": "fwlb", "role": "standby", "ready": true, "priority": 190, "base": 190,
            "deductions": 0, "term": 6, "version": "0.1.0", "config": ["route"], "sessions_held": 9,
            "behind_ms": 1, "pass": {"done": 1, "of": 2}, "full_passes": 1, "records": 9, "resends": 1, "refused": {"full": 1},
            "heard": [{"path": "internet", "age_ms": 12}]});
    let cluster = json!({"engine": "outer-a", "node": "outer-a", "role": "active", "ready": true, "term": 7, "since_ms": 5000,
        "reason": "x", "priority": 195, "base": 200, "deductions": [{"kind": "link", "subject": "x", "detail": "x", "points": 50}],
        "faults": ["x"], "maintenance": false, "version": "0.1.0", "lease_ms": 61,
        "interval_ms": 30, "lateness_ms": 0.4, "sessions_needed": 9, "sessions_held": 0, "transitions": 2,
        "nodes": [node],
        "history": [{"ago_ms": 5000, "from": "standby", "to": "active", "reason": "x", "term": 7, "lasted_ms": 60000,
            "by": "x"}]});
    let cluster_alone = json!({"engine": "outer-a", "node": "outer-a", "role": "listen", "ready": true, "term": 0,
        "since_ms": 5, "reason": "x", "priority": 200, "base": 200, "deductions": [], "faults": [], "maintenance": false, "version": "0.1.0", "lease_ms": null,
        "interval_ms": 30, "lateness_ms": 0.0, "sessions_needed": 0, "sessions_held": 0, "transitions": 0, "nodes": [], "history": []});
    let explained_node =
        json!({"name": "outer-b", "role": "standby", "could_take_over": true, "rule": "score", "why": "x"});
    let explained_cluster = json!({"engine": "outer-a", "role": "active", "active": "outer-a", "rule": "silence",
        "story": ["in words"], "deductions": [{"kind": "link", "subject": "x", "detail": "x", "points": 50}],
        "moved": {"ago_ms": 5000, "from": "standby", "to": "active", "reason": "x", "term": 7, "lasted_ms": 60000,
            "by": null},
        "nodes": [explained_node], "next": "outer-b"});
    let explained_start = json!({"engine": "outer-a", "role": "listen", "active": null, "rule": "start", "story": [],
        "deductions": [], "moved": null, "next": null, "nodes": [
            {"name": "outer-b", "role": null, "could_take_over": false, "rule": "unheard", "why": "x"}]});
    let order = json!({"engine": "outer", "admin": "drain", "weight": null, "reason": "upgrade",
        "by": "root (uid 0)", "at": "2026-01-02T03:04:05Z"});
    let held = json!({"done": "firewall fw1 is set to ready", "held": [order], "warnings": ["in words"]});
    let by = || Some("x".to_owned());
    let set_firewall = calls::SetFirewall { name: "fw1".to_owned(), by: by(), force: true, ..Default::default() };
    let kill = calls::Kill {
        filter: SessionFilter { ports: vec![80], ..Default::default() },
        reset: true,
        reason: None,
        by: by(),
    };
    vec![
        (Request::Status(calls::Status {}), Answer::Status(measured.status.clone())),
        (Request::Health(calls::Health {}), Answer::Health(view(health))),
        (Request::Links(calls::Links {}), Answer::Links(measured.links.clone())),
        (Request::Neighbors(calls::Neighbors {}), Answer::Neighbors(vec![view(neighbor), view(unresolved)])),
        (Request::Firewalls(calls::Firewalls {}), Answer::Firewalls(measured.firewalls.clone())),
        (Request::Peers(calls::Peers {}), Answer::Peers(measured.peers.clone())),
        (Request::Ha(calls::Ha {}), Answer::Ha(vec![view(cluster), view(cluster_alone)])),
        (calls::ExplainHa {}.into(), Answer::ExplainHa(Box::new(view(explained_cluster)))),
        (calls::ExplainHa {}.into(), Answer::ExplainHa(Box::new(view(explained_start)))),
        (
            calls::HaFailover { to: None, reason: None, by: by(), force: true }.into(),
            Answer::HaFailover(Done::from("the role goes to outer-b".to_owned())),
        ),
        (
            calls::HaMaintenance { maintenance: true, reason: None, by: by() }.into(),
            Answer::HaMaintenance(Done::from("outer-a is in maintenance".to_owned())),
        ),
        (
            calls::HaResync { reason: None, by: by() }.into(),
            Answer::HaResync(Done::from("the other nodes are told".to_owned())),
        ),
        (
            calls::Upgrade { reason: None, by: by() }.into(),
            Answer::Upgrade(view(
                json!({"engine": "outer", "version": "1.0.0", "pid": 7, "config": "/etc/fwlb/outer.toml",
                "takes_default_route": false, "socket": "/run/fwlb/outer.sock.upgrade"}),
            )),
        ),
        (Request::Services(calls::Services {}), Answer::Services(measured.services.clone())),
        (calls::Checks::default().into(), Answer::Checks(vec![view(checked), view(probed)])),
        (Request::Counters(calls::Counters {}), Answer::Counters(measured.counters.clone())),
        (calls::Config { all: false }.into(), Answer::Config(view(json!({"text": "[engine]"})))),
        (calls::Config { all: true }.into(), Answer::Config(view(all))),
        (Request::Sessions(Default::default()), Answer::Sessions(vec![view(session), view(whole)].into())),
        (talkers(), Answer::Talkers(vec![view(talker), view(talker_with_rates)])),
        (kill.into(), Answer::Kill(vec![view(json!({"engine": "outer", "killed": 7, "resets": 14}))])),
        (Request::Events(Default::default()), Answer::Events(vec![view(event), view(told)])),
        (explain(), Answer::Explain(Box::new(view(explained)))),
        (explain(), Answer::Explain(Box::new(view(explained_whole)))),
        (calls::Probe { subject: "perimeter/fw1".to_owned() }.into(), Answer::Probe(vec![view(exchange)])),
        (calls::Rollback { back: Some(1), by: by() }.into(), Answer::Rollback(view(waits))),
        (Request::Configs(calls::Configs {}), Answer::Configs(vec![view(kept), view(oldest)])),
        (calls::Confirm { by: by() }.into(), done().unwrap()),
        (calls::Reload { by: by(), ..Default::default() }.into(), Answer::Reload(view(reload))),
        (calls::Plan::default().into(), Answer::Plan(Box::new(view(plan)))),
        (calls::SetService { name: "web".to_owned(), admin: None, reason: None, by: by() }.into(), done().unwrap()),
        (set_firewall.into(), Answer::SetFirewall(view(held))),
        (Request::Metrics(calls::Metrics {}), Answer::Metrics(Box::new(measured))),
    ]
}

#[tokio::test]
async fn answers_are_as_they_are_described() {
    let document = document().await;
    let examples = examples();
    let served = serve(examples.iter().map(|(_, answer)| Ok(answer.clone())).collect());

    for (request, _) in &examples {
        let answer = served.client.ask_json(request).await.unwrap();
        assert_eq!(faults(&document, answered(&document, request), &answer), [""; 0], "{request:?}: {answer:#}");
    }
}

#[tokio::test]
async fn answers_of_several_engines_at_once_are_as_they_are_described() {
    let document = document().await;

    let mut merged = 0;
    for (request, answer) in examples() {
        let engine = || Arc::new(Fake { asked: Default::default(), answers: vec![Ok(answer.clone())].into() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let access = Access::new("127.0.0.1:9600".parse().unwrap(), None, Vec::new()).unwrap();
        let (engines, access) = (Engines::new(vec![engine(), engine()]), ArcSwap::from_pointee(access));
        tokio::spawn(listen::serve(listener, Arc::new(engines), Arc::new(access), Limits::default()));
        let HttpCall { method, uri, body } = request.http();
        let (status, _, both) = network::ask(address, method, &uri, None, &body.unwrap_or_default()).await;
        // A call that makes no sense for several engines needs the name of one.
        if status != 200 {
            continue;
        }
        merged += 1;
        assert_eq!(faults(&document, answered(&document, &request), &both), [""; 0], "{request:?}: {both:#}");
    }
    assert!(merged >= 9, "{merged} kinds of answers of several");
}

#[tokio::test]
async fn errors_are_as_they_are_described() {
    let document = document().await;
    let words = || "why".to_owned();
    let reload = Request::from(calls::Reload::default());
    let forced =
        Request::from(calls::SetFirewall { name: "fw1".to_owned(), force: true, ..calls::SetFirewall::default() });
    for error in [
        ApiError::NotFound(words()),
        ApiError::BadRequest(words()),
        ApiError::Unauthorized(words()),
        ApiError::Forbidden(words()),
        ApiError::Conflict(words()),
        ApiError::Refused(words()),
        ApiError::Unavailable(words()),
    ] {
        let served = serve(vec![Err(error.clone())]);
        let (verb, path, call) = match error {
            ApiError::Conflict(_) => ("PUT", "/api/v1/firewalls/admin", &forced),
            _ => ("POST", "/api/v1/reload", &reload),
        };
        let status = status(&served, verb, path).await.to_string();
        let responses = &operation(&document, &call.http())["responses"];
        let response = responses[&status]["$ref"].as_str().and_then(|reference| resolve(&document, reference));
        let response = response.unwrap_or_else(|| panic!("{error:?} is not described: {responses}"));
        let schema = &response["content"]["application/json"]["schema"];
        assert_eq!(faults(&document, schema, &serde_json::to_value(&error).unwrap()), [""; 0]);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_as_described_is_told_from_one_that_is() {
    let document = document().await;
    let schema = answered(&document, &Request::Links(calls::Links {}));
    let good = serde_json::to_value(measured().links).unwrap();
    let spoilt = |key: &str, value: Option<Value>| {
        let mut bad = good.clone();
        let link = bad[0].as_object_mut().unwrap();
        match value {
            Some(value) => link.insert(key.to_owned(), value),
            None => link.remove(key),
        };
        faults(&document, schema, &bad).len()
    };

    assert_eq!(faults(&document, schema, &good), [""; 0]);
    assert!(!faults(&document, schema, &good[0]).is_empty(), "an object is no list");
    assert_eq!(spoilt("mac", Some(Value::Null)), 1);
    assert_eq!(spoilt("vlan", None), 1, "null is not absent");
    assert_eq!(spoilt("mtu", Some(json!("1500"))), 1);
    assert_eq!(spoilt("rx_packets", Some(json!(-1))), 1);
    assert_eq!(spoilt("surprise", Some(json!(1))), 1);

    let set = Request::from(calls::SetServer::new("web", "s1", fwlb::api::ServerChange::Weight(None)));
    let body = &operation(&document, &set.http())["requestBody"]["content"]["application/json"]["schema"];
    let order = |keys: Value| faults(&document, body, &keys).len();
    assert_eq!(order(json!({"service": "web", "name": "s1", "weight": fwlb::api::WEIGHT_MAX})), 0);
    assert_eq!(order(json!({"service": "web", "name": "s1", "weight": fwlb::api::WEIGHT_MAX + 1})), 1);
    assert_eq!(order(json!({"service": "web", "name": "s1", "admin": "drain"})), 0);
    assert!(order(json!({"service": "web", "name": "s1", "admin": "off"})) > 0);
    assert!(order(json!({"service": "web"})) > 0);
}
