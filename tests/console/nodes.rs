//! The nodes of a cluster in the console, and the orders to them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fwlb::api::{Answer, ApiError, Backend, Request};
use fwlb::config::{Role, Secret, Token};
use serde_json::{Value, json};

use super::browser::Page;
use super::{Frozen, page_of, serve, text_of};

const SECRET: &str = "a-secret-of-an-operator";

/// An engine that is a node of a cluster, and what it was ordered.
struct Node {
    engine: Frozen,
    cluster: Value,
    orders: Mutex<Vec<Value>>,
}

impl Node {
    fn new(name: &'static str, cluster: Value) -> Arc<Self> {
        Arc::new(Self { engine: Frozen(name), cluster, orders: Mutex::default() })
    }

    fn order(&self, order: Value) {
        self.orders.lock().expect("no test failed").push(order);
    }
}

impl Backend for Node {
    fn engine(&self) -> &str {
        self.engine.0
    }

    async fn ask(self: Arc<Self>, request: Request) -> Result<Answer, ApiError> {
        let told = match &request {
            Request::Ha(_) => json!([self.cluster]),
            Request::HaFailover(call) => {
                self.order(json!({"to": call.to, "reason": call.reason, "by": call.by, "force": call.force}));
                if !call.force {
                    return Err(ApiError::Conflict("outer-b is not ready: it lacks copies of sessions".to_owned()));
                }
                json!({"done": "the role goes to outer-b"})
            }
            Request::HaMaintenance(call) => {
                self.order(json!({"maintenance": call.maintenance, "reason": call.reason, "by": call.by}));
                json!({"done": "outer-a is in maintenance", "warnings": ["outer-a stays active"]})
            }
            other => self.engine.told(other),
        };
        Ok(Answer::from_json(&request, told).expect("an answer to this request"))
    }
}

/// What the active node says; of the other nodes it hears `nodes`.
fn active(nodes: Value) -> Value {
    json!({
        "engine": "outer-a", "node": "outer-a", "role": "active", "ready": true, "term": 7, "since_ms": 5000,
        "reason": "outer-b was silent for 97 ms", "priority": 195, "base": 200,
        "deductions": [{"kind": "group", "subject": "perimeter", "detail": "<b>one</b> is down", "points": 5}],
        "faults": [], "maintenance": false, "version": "0.1.0", "lease_ms": 61, "interval_ms": 30, "lateness_ms": 0.4,
        "sessions_needed": 900, "sessions_held": 0, "nodes": nodes, "transitions": 2, "history": [],
    })
}

fn heard(name: &str, role: &str, ready: bool, copies: u32) -> Value {
    json!({
        "name": name, "kind": "fwlb", "role": role, "ready": ready, "priority": 190, "base": 190, "deductions": 0,
        "term": 6, "version": "0.2.0", "config": [], "sessions_held": copies,
        "behind_ms": 40, "pass": null, "full_passes": u32::from(copies > 0), "records": 0, "resends": 0, "refused": {},
        "heard": [{"path": "internet", "age_ms": 12}, {"path": "sync", "age_ms": 14}],
    })
}

/// What the standby says, which is in maintenance.
fn in_maintenance() -> Value {
    let mut other = heard("outer-a", "active", true, 0);
    other["config"] = json!(["route"]);
    let mut view = active(json!([other]));
    for (key, value) in [
        ("engine", json!("outer-b")),
        ("node", json!("outer-b")),
        ("role", json!("fault")),
        ("deductions", json!([])),
        ("priority", json!(190)),
        ("base", json!(190)),
        ("faults", json!(["it is in maintenance"])),
        ("maintenance", json!(true)),
    ] {
        view[key] = value;
    }
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_node_lists_the_others_as_it_hears_them() {
    let mut lost = heard("outer-c", "standby", false, 0);
    (lost["role"], lost["heard"]) = (Value::Null, json!([]));
    let view = active(json!([heard("outer-b", "standby", false, 812), lost]));

    let (html, complaints) = page_of(vec![Node::new("outer-a", view)]).await;

    assert_eq!(complaints, "");
    let text = text_of(&html);
    for expected in [
        "Node Role Ready Priority Term Since Version Copies Heard Why",
        "outer-a active yes 195 = 200 - 5 7 5.0s 0.1.0 - this engine - 5, group perimeter: &lt;b&gt;one&lt;/b&gt; is down",
        "outer-b standby no 190 6 - 0.2.0 812 of 900, 40ms behind 12ms ago by outer-a on internet, sync",
        "outer-c not heard - 190 6 - 0.2.0 - not by outer-a",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(!text.contains("Failover"), "without a token nothing can be ordered: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_both_nodes_lists_each_once_as_it_describes_itself() {
    let engines = [("outer-a", active(json!([heard("outer-b", "standby", true, 0)]))), ("outer-b", in_maintenance())];

    let (html, complaints) = page_of(engines.map(|(name, view)| Node::new(name, view)).to_vec()).await;

    assert_eq!(complaints, "");
    let text = text_of(&html);
    for expected in [
        "Node Role Ready Priority Term Since Version Heard Why",
        "outer-a active yes 195 = 200 - 5 7 5.0s 0.1.0 12ms ago by outer-b on internet, sync - 5, group perimeter",
        "is down; its file differs from that of outer-b: route",
        "outer-b fault yes 190 7 5.0s 0.1.0 12ms ago by outer-a on internet, sync it is in maintenance",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(!text.contains("outer-b standby"), "what a node says of itself counts: {text}");
}

/// Signs in, gives orders by the buttons of the page, and returns the questions and results.
const ORDERS: &str = r#"
    const $ = (id) => document.getElementById(id);
    const until = async (what, met) => {
        for (let tries = 0; tries < 200; tries += 1) {
            const found = met();
            if (found) return found;
            await new Promise((resolve) => setTimeout(resolve, 100));
        }
        throw new Error(`never: ${what}; ${document.body.innerText}`);
    };
    const buttons = () => [...$("nodes").querySelectorAll("button")];
    const answer = (value) => $("ask").querySelector(`button[value=${value}]`).click();
    const order = async (text, reason, value) => {
        (await until(text, () => buttons().find((button) => button.textContent === text))).click();
        await until("a question", () => $("ask").open);
        const question = $("question").textContent;
        $("reason").value = reason;
        answer(value);
        return question;
    };
    await until("answers", () => document.body?.dataset.ready);
    const before = buttons().length;
    $("operator").click();
    $("secret").value = "SECRET";
    $("sign-in").requestSubmit();
    await until("signed in", () => $("who").textContent.includes("(operator)"));
    await until("buttons", () => buttons().length);
    const offered = buttons().map((button) => button.textContent);
    const failover = await order("Failover", "upgrade", "yes");
    await until("a second question", () => $("ask").open && $("question").textContent !== failover);
    const forced = $("question").textContent;
    answer("yes");
    await until("the result", () => $("said").textContent.includes("the role goes"));
    const declined = await order("Maint", "nothing", "no");
    await order("Maint", "a new fan", "yes");
    const said = await until("the result", () => $("said").textContent.includes("maintenance") && $("said").textContent);
    return { before, offered, failover, forced, declined, said };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_moves_the_role_and_takes_a_node_out_after_a_question_each() {
    let node = Node::new("outer-a", active(json!([heard("outer-b", "standby", false, 3)])));
    let secret = Secret::new(SECRET.to_owned());
    let token = Token { name: "kim".to_owned(), role: Role::Operator, secret };
    let address = serve(vec![node.clone()], vec![token]).await;

    let driven = async { Page::open(&format!("http://{address}/")).await.run(&ORDERS.replace("SECRET", SECRET)).await };
    let seen = tokio::time::timeout(Duration::from_secs(90), driven).await.expect("the browser answers");

    assert_eq!(seen["before"], 0, "no token, no buttons: {seen:#}");
    assert_eq!(seen["offered"], json!(["Failover", "Maint"]));
    assert_eq!(seen["failover"], "Give the active role of outer-a to the node with the best claim?");
    assert_eq!(seen["forced"], "outer-b is not ready: it lacks copies of sessions. Do it all the same?");
    let declined = seen["declined"].as_str().expect("a question");
    assert!(declined.starts_with("Take node outer-a out of service? It gives the active role away"), "{declined}");
    assert_eq!(seen["said"], "outer-a is in maintenance; outer-a stays active");
    let orders = node.orders.lock().expect("no test failed").clone();
    assert_eq!(
        orders,
        [
            json!({"to": null, "reason": "upgrade", "by": "kim", "force": false}),
            json!({"to": null, "reason": "upgrade", "by": "kim", "force": true}),
            json!({"maintenance": true, "reason": "a new fan", "by": "kim"}),
        ]
    );
}
