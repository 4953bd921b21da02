//! A browser that a test drives: Chromium's DevTools protocol over a pipe.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A page in a browser of its own.
pub struct Page {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Option<String>,
    last_id: u64,
    _browser: Child,
    _profile: tempfile::TempDir,
}

impl Page {
    /// Starts a browser and opens `url`.
    pub async fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a directory");
        // The browser takes orders at descriptor 3 and answers at descriptor 4.
        let mut browser = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("there is a shell");
        let orders = browser.stdin.take().expect("it is piped");
        let answers = BufReader::new(browser.stdout.take().expect("it is piped"));
        let mut page = Self { orders, answers, session: None, last_id: 0, _browser: browser, _profile: profile };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attached = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", attached).await;
        page.session = Some(attached["sessionId"].as_str().expect("a session").to_owned());
        page.call("Page.navigate", json!({"url": url})).await;
        page
    }

    /// Runs the body of an asynchronous function in the page, and returns what it returns.
    pub async fn run(&mut self, body: &str) -> Value {
        let expression = format!("(async () => {{{body}}})()");
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer.get("exceptionDetails").is_none(), "{answer:#}");
        answer["result"]["value"].clone()
    }

    /// Sends an order and waits for its answer; events between them are ignored.
    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut order = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        let mut bytes = order.to_string().into_bytes();
        bytes.push(0);
        self.orders.write_all(&bytes).await.expect("the browser runs: apt-get install chromium");
        loop {
            let mut bytes = Vec::new();
            self.answers.read_until(0, &mut bytes).await.expect("the browser runs");
            let text = bytes.strip_suffix(&[0]).expect("the browser ended: apt-get install chromium");
            let mut message: Value = serde_json::from_slice(text).expect("JSON");
            if message["id"] == json!(self.last_id) {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }
}
