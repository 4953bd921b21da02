//! Tests of the kept configurations of a running engine: rollback, confirmation, and what a restart makes of them.

use std::path::PathBuf;

use super::*;

/// An engine with its file, on a link that leads nowhere.
struct Fixture {
    directory: tempfile::TempDir,
    _host: Host,
}

impl Fixture {
    /// Sets the test up; `None` where tests in network namespaces are left out.
    fn new() -> Option<Self> {
        if !namespace() {
            return None;
        }
        let host = Host::new();
        plug_in(&host, "ra0", 1);
        let ground = Self { directory: tempfile::tempdir().unwrap(), _host: host };
        ground.write("4m");
        Some(ground)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("own.toml")
    }

    /// Writes the engine's file with this timeout of handshakes (`tcp-syn`).
    fn write(&self, handshake: &str) {
        let directory = self.directory.path().display();
        let text = format!(
            "[engine]\nname = \"own\"\nworkers = 1\ncontrol = \"{directory}/own.sock\"\nstate = \"{directory}/state\"\n\
             [limits]\nsessions = 10_000\n[timeouts]\ntcp-syn = \"{handshake}\"\n[[link]]\nname = \"a\"\ndevice = \"ra0\"\n"
        );
        std::fs::write(self.path(), text).unwrap();
    }

    fn start(&self) -> Run {
        let text = std::fs::read_to_string(self.path()).unwrap();
        let config = config::testing::config(&text);
        let run = Run::start(vec![EngineFile { path: self.path(), text, config }]);
        eventually("the configuration is kept", || !self.configs().is_empty());
        run
    }

    fn get(&self, path: &str) -> Value {
        get(self.directory.path(), "own", path)
    }

    fn configs(&self) -> Vec<Value> {
        self.get("configs").as_array().unwrap().clone()
    }

    /// Sends a POST request; returns the HTTP status and the answer.
    fn post(&self, path: &str, body: &Value) -> (String, Value) {
        let mut stream = UnixStream::connect(self.directory.path().join("own.sock")).unwrap();
        let body = body.to_string();
        let head = "host: engine\r\ncontent-type: application/json";
        write!(stream, "POST /api/v1/{path} HTTP/1.0\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        (head.split(' ').nth(1).unwrap().to_owned(), serde_json::from_str(body).unwrap())
    }

    /// The timeout of handshakes that is in force.
    fn handshake(&self) -> String {
        let settings = self.get("config?all=true")["settings"].clone();
        let it = settings.as_array().unwrap().iter().find(|setting| setting["key"] == "tcp-syn").unwrap().clone();
        it["value"].as_str().unwrap().trim_matches('"').to_owned()
    }

    fn alarms(&self) -> Vec<String> {
        let status = self.get("status");
        status["alarms"].as_array().unwrap().iter().map(|alarm| alarm["kind"].as_str().unwrap().to_owned()).collect()
    }

    fn told(&self, what: &str) -> bool {
        let events = self.get("events");
        events.as_array().unwrap().iter().any(|event| {
            event["kind"] == "config" && event["reason"].as_str().is_some_and(|reason| reason.contains(what))
        })
    }
}

#[test]
fn an_engine_returns_to_an_earlier_configuration_and_says_what_its_file_says() {
    let Some(ground) = Fixture::new() else { return };
    let run = ground.start();
    for handshake in ["20s", "30s"] {
        ground.write(handshake);
        assert_eq!(ground.post("reload", &serde_json::json!({ "by": "kim" })).0, "200");
    }

    let (status, plan) = ground.post("plan", &serde_json::json!({ "back": 2 }));
    assert_eq!((status.as_str(), &plan["differences"][0]["to"]), ("200", &"4m".into()), "{plan}");
    assert_eq!(ground.handshake(), "30s", "a plan changes nothing");
    let (status, done) = ground.post("rollback", &serde_json::json!({ "back": 2, "by": "kim" }));
    assert_eq!(status, "200", "{done}");
    assert_eq!((ground.handshake().as_str(), &done["own_config"]), ("4m", &ground.path().display().to_string().into()));
    let kept = std::fs::read_to_string(done["kept"].as_str().unwrap()).unwrap();
    assert!(kept.contains("tcp-syn = \"4m\""), "{kept}");

    let configs = ground.configs();
    let how: Vec<_> = configs.iter().map(|config| config["how"].as_str().unwrap()).collect();
    assert_eq!(how, ["rollback", "reload", "reload", "start"]);
    let by = configs[0]["by"].as_str().unwrap();
    assert!(by.ends_with("claimed name \"kim\""), "{by}");
    assert_eq!((&configs[0]["in_force"], &configs[3]["by"]), (&true.into(), &Value::Null));
    assert_eq!(configs[1]["differences"][0]["key"], "tcp-syn");
    assert!(ground.told("rolled back to configuration 1: timeouts: tcp-syn 30s -> 4m"));
    let (status, error) = ground.post("rollback", &serde_json::json!({ "back": 9 }));
    assert_eq!(status, "404", "{error}");
    run.stop();

    // The file says 30s, and a restart reads it again.
    let run = ground.start();
    assert_eq!(ground.handshake(), "30s");
    assert_eq!(ground.configs().len(), 5);
    run.stop();
}

#[test]
fn what_is_confirmed_stays_and_what_is_not_goes() {
    let Some(ground) = Fixture::new() else { return };
    let run = ground.start();
    assert_eq!(ground.post("confirm", &serde_json::json!({ "by": "kim" })).0, "422", "nothing waits");

    ground.write("20s");
    let (status, done) = ground.post("reload", &serde_json::json!({ "confirm_ms": 60_000, "by": "kim" }));
    assert_eq!((status.as_str(), &done["confirm_within_ms"]), ("200", &60_000.into()), "{done}");
    assert_eq!((ground.handshake(), ground.alarms()), ("20s".to_owned(), vec!["unconfirmed".to_owned()]));
    assert_eq!(ground.configs()[0]["unconfirmed"], true);
    assert_eq!(ground.post("confirm", &serde_json::json!({ "by": "kim" })).0, "200");
    assert!(ground.alarms().is_empty());

    ground.write("30s");
    assert_eq!(ground.post("reload", &serde_json::json!({ "confirm_ms": 1000, "by": "kim" })).0, "200");
    eventually("nobody confirms", || ground.handshake() == "20s");
    eventually("it is told", || ground.told("not confirmed within 1s, returned to configuration 2"));
    assert_eq!(ground.alarms(), ["not_confirmed"]);
    assert_eq!(ground.post("reload", &serde_json::json!({ "confirm_ms": 10, "by": "kim" })).0, "400");
    run.stop();

    // The file still has the timeout that nobody confirmed: a restart does not use it, a reload does.
    let run = ground.start();
    assert_eq!(ground.handshake(), "20s");
    eventually("it is told", || ground.told("was not confirmed: started with configuration 2"));
    assert_eq!(ground.post("reload", &serde_json::json!({ "by": "kim" })).0, "200");
    assert_eq!((ground.handshake().as_str(), ground.alarms().len()), ("30s", 0));
    run.stop();
    let run = ground.start();
    assert_eq!(ground.handshake(), "30s");
    run.stop();
}

#[test]
fn a_restart_goes_on_waiting_for_the_confirmation() {
    let Some(ground) = Fixture::new() else { return };
    let run = ground.start();
    ground.write("20s");
    assert_eq!(ground.post("reload", &serde_json::json!({ "confirm_ms": 60_000, "by": "kim" })).0, "200");
    run.stop();

    let run = ground.start();
    assert_eq!((ground.handshake(), ground.alarms()), ("20s".to_owned(), vec!["unconfirmed".to_owned()]));
    eventually("it is told", || ground.told("started before it was confirmed: returns to configuration 1 in"));
    assert_eq!(ground.post("confirm", &serde_json::json!({ "by": "kim" })).0, "200");
    run.stop();

    // Too late: the engine was down when the time was over.
    ground.write("30s");
    let run = ground.start();
    ground.write("40s");
    assert_eq!(ground.post("reload", &serde_json::json!({ "confirm_ms": 1500, "by": "kim" })).0, "200");
    run.stop();
    std::thread::sleep(Duration::from_millis(1600));
    let run = ground.start();
    assert_eq!(ground.handshake(), "30s");
    run.stop();
}
