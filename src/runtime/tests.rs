//! Tests of whole engines on real devices: the test's namespace is the engine's machine, and the hosts on its links
//! have namespaces of their own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;

use super::*;
use crate::config;
use crate::io::lock::LinkLock;
use crate::io::testing::{Host, command, ip, namespace};
use crate::time::Duration;

mod configs;
mod devices;
mod metrics;
mod restart;

/// The file of an engine called `name` with these links; its sockets and state are in `directory`.
fn file(directory: &Path, name: &str, links: &str) -> EngineFile {
    let directory = directory.display();
    let text = format!(
        "[engine]\nname = \"{name}\"\nworkers = 2\ncontrol = \"{directory}/{name}.sock\"\nstate = \"{directory}/{name}\"\n\
         [limits]\nsessions = 10_000\n{links}"
    );
    let config = config::testing::config(&text);
    EngineFile { path: "test.toml".into(), text, config }
}

/// A router between 10.66.1.0/24 on `ra0` and 10.66.2.0/24 on `rb0`, in both address families.
fn router(directory: &Path) -> EngineFile {
    let links = "\
[[link]]
name = \"a\"
device = \"ra0\"
addresses = [\"10.66.1.1/24\", \"fd66:1::1/64\"]
[[link]]
name = \"b\"
device = \"rb0\"
addresses = [\"10.66.2.1/24\", \"fd66:2::1/64\"]
";
    file(directory, "router", links)
}

/// Connects a host to `device`, in subnet `number`, with default routes to the engine.
fn plug_in(host: &Host, device: &str, number: u8) {
    ip(&format!("link add {device} type veth peer name h0 netns {}", host.id));
    ip(&format!("link set {device} up"));
    host.ip("link set h0 up");
    host.ip(&format!("address add 10.66.{number}.2/24 dev h0"));
    host.ip(&format!("-6 address add fd66:{number}::2/64 dev h0 nodad"));
    host.ip(&format!("route add default via 10.66.{number}.1"));
    host.ip(&format!("-6 route add default via fd66:{number}::1"));
}

/// Engines that run in a thread of this process.
struct Run {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Run {
    fn start(files: Vec<EngineFile>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            run_until(files, Options::default(), || sender.send(()).unwrap(), async {
                let _ = stopped.await;
            })
        });
        if receiver.recv_timeout(Duration::from_secs(20)).is_err() {
            panic!("engines did not start: {:?}", thread.join());
        }
        Self { stop: Some(stop), thread: Some(thread) }
    }

    fn stop(mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

/// Sends a GET request over the control socket, as a client does.
fn get(directory: &Path, engine: &str, path: &str) -> Value {
    let mut stream = UnixStream::connect(directory.join(format!("{engine}.sock"))).unwrap();
    write!(stream, "GET /api/v1/{path} HTTP/1.0\r\nhost: engine\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

/// Repeats a check until it holds, for ten seconds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not within ten seconds: {what}");
}

fn pings(host: &Host, address: &'static str) -> bool {
    host.run(move || {
        let words = ["-c", "1", "-W", "1", address];
        Command::new("ping").args(words).stdout(Stdio::null()).status().expect("ping is installed").success()
    })
}

/// Sends 4 MiB from one host to a server on the other and compares them.
fn tcp(from: &Host, to: &Host, server: &'static str) {
    let (sender, receiver) = mpsc::channel();
    to.run(move || {
        let listener = TcpListener::bind(server).unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all
        });
        sender.send((address, thread)).unwrap();
    });
    let (address, thread) = receiver.recv().unwrap();
    let content: Vec<u8> = (0..4usize << 20).map(|at| (at / 7) as u8).collect();
    let sent = content.clone();
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        stream.write_all(&sent).unwrap();
    });
    assert!(thread.join().unwrap() == content);
}

#[test]
fn an_engine_routes_between_two_links_and_leaves_no_trace() {
    if !namespace() {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    plug_in(&a, "ra0", 1);
    plug_in(&b, "rb0", 2);
    let directory = tempfile::tempdir().unwrap();
    let run = Run::start(vec![router(directory.path())]);
    let ask = |path: &str| get(directory.path(), "router", path);

    for address in ["10.66.1.1", "fd66:1::1", "10.66.2.2", "fd66:2::2"] {
        eventually(address, || pings(&a, address));
    }
    tcp(&a, &b, "10.66.2.2:0");
    tcp(&b, &a, "[fd66:1::2]:0");

    // ARP, ND and echo replies are the engine's own frames, which count as sent like those that it forwards.
    let sent = || ask("links")[0]["tx_packets"].as_u64().unwrap();
    let (before, forwarded) = (sent(), ask("counters")["forwarded"].as_u64());
    eventually("one more pong", || pings(&a, "10.66.1.1"));
    assert!(sent() > before, "the answer to a ping is sent on the link");
    assert_eq!(ask("counters")["forwarded"].as_u64(), forwarded);

    let counters = ask("counters");
    let count = |name: &str| counters[name].as_u64().unwrap_or_else(|| panic!("{name}: {counters}"));
    assert_eq!(count("received"), count("forwarded") + count("hairpinned") + count("punted") + count("dropped"));
    assert!(count("forwarded") > 100 && count("punted") > 0, "{counters}");
    let broken = ["drop_ip_checksum", "drop_transport", "drop_truncated", "tx_too_big", "tx_refused", "ring_dropped"];
    assert!(broken.iter().all(|name| count(name) == 0), "{counters}");
    let links = ask("links");
    assert_eq!(
        (&links[0]["name"], &links[0]["state"], &links[1]["device"]),
        (&"a".into(), &"up".into(), &"rb0".into())
    );
    assert!(links[0]["rx_packets"].as_u64() > Some(50) && links[1]["tx_packets"].as_u64() > Some(50), "{links}");
    let neighbors = ask("neighbors");
    assert!(neighbors.to_string().contains("10.66.2.2"), "{neighbors}");
    let status = ask("status");
    assert_eq!(
        (&status["name"], &status["workers"], &status["capacity"]),
        (&"router".into(), &2.into(), &10_000.into())
    );
    assert!(ask("config")["text"].as_str().unwrap().contains("name = \"router\""));
    let mode = std::fs::metadata(directory.path().join("router.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert!(command("nft", "list ruleset").contains("router"));

    run.stop();
    assert_eq!(command("nft", "list ruleset"), "");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().map(|file| file.file_name()).collect();
    assert!(left.iter().all(|name| name == "router"), "only what is kept over a restart is left: {left:?}");
    let kept = std::fs::read_to_string(directory.path().join("router/events.jsonl")).unwrap();
    let kept: Vec<serde_json::Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(kept.iter().map(|event| event["to"].as_str().unwrap()).collect::<Vec<_>>(), ["started", "stopped"]);
    assert!(command("ip", "-d link show ra0").contains("promiscuity 0"));
}

#[test]
fn a_device_that_goes_down_or_away_and_comes_back_is_forwarded_on_again() {
    if !namespace() {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    plug_in(&a, "ra0", 1);
    plug_in(&b, "rb0", 2);
    let directory = tempfile::tempdir().unwrap();
    let run = Run::start(vec![router(directory.path())]);
    let state = || get(directory.path(), "router", "links")[1]["state"].clone();
    eventually("forwarding", || pings(&a, "10.66.2.2"));

    for _ in 0..3 {
        ip("link set rb0 down");
        eventually("the link is down", || state() == "down");
        assert!(!pings(&a, "10.66.2.2"));
        ip("link set rb0 up");
        eventually("forwarding after down and up", || pings(&a, "10.66.2.2"));
    }
    ip("link delete rb0");
    eventually("the link is gone", || state() == "down");
    plug_in(&b, "rb0", 2);
    let clock = Clock::new();
    eventually("the link is up again", || state() == "up");
    assert!(clock.now().as_millis() < 2000, "bound again after {} ms", clock.now().as_millis());
    eventually("forwarding on the new device", || pings(&a, "10.66.2.2") && pings(&b, "fd66:1::2"));

    let events = get(directory.path(), "router", "events");
    let about_b = events.as_array().unwrap().iter().filter(|event| event["subject"] == "b").count();
    assert!(about_b >= 8, "four times down and up: {events}");
    run.stop();
}

#[test]
fn two_engines_of_one_process_share_a_device_by_vlan() {
    if !namespace() {
        return;
    }
    ip("link add rt0 type veth peer name rt1");
    ip("link set rt0 up");
    ip("link set rt1 up");
    let directory = tempfile::tempdir().unwrap();
    let on_vlan = |name: &str, vid: u16| {
        let link =
            format!("[[link]]\nname = \"l\"\ndevice = \"rt0\"\nvlan = {vid}\naddresses = [\"10.{vid}.0.1/24\"]\n");
        file(directory.path(), name, &link)
    };
    let run = Run::start(vec![on_vlan("outer", 10), on_vlan("inner", 20)]);
    // Asks for 10.10.0.1 with the tag of VLAN 10, and for 10.20.0.1 with that of VLAN 20.
    let index = crate::io::netdev::find("rt1").unwrap().index;
    let mut receiver = crate::io::af_packet::Receiver::open(index, Default::default()).unwrap();
    let sender = crate::io::af_packet::Sender::open(index).unwrap();
    let mut answers = Vec::new();
    eventually("both engines answer ARP, each in its VLAN", || {
        for vid in [10u8, 20] {
            let mut frame = vec![0xff; 6];
            frame.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, vid, 0, 9]);
            frame.extend([0, 0, 0, 0, 0, 0, 10, vid, 0, 1]);
            let vlan = Some(crate::wire::vlan::VlanTag::new(vid.into()));
            let offload = crate::wire::offload::Offload::NONE;
            let outgoing = crate::io::frame_io::Outgoing { bytes: &frame, vlan, offload };
            sender.send([outgoing], |_, error| panic!("{error:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
        let mut batch = crate::wire::batch::Batch::new();
        receiver.receive(crate::id::DeviceId(0), &mut batch, || ());
        for packet in &batch.packets {
            if packet.bytes[12..14] == [8, 6] && packet.bytes[21] == 2 {
                answers.push((packet.vlan.unwrap().vid(), packet.bytes[29]));
            }
        }
        drop(batch);
        receiver.release();
        answers.sort_unstable();
        answers.dedup();
        answers.len() >= 2
    });
    assert_eq!(answers, [(10, 10), (20, 20)], "(VLAN, second octet of the answering address)");
    run.stop();
}

/// The error of an engine that cannot start.
fn refusal(file: EngineFile) -> String {
    let outcome = run_until(vec![file], Options::default(), || panic!("it started"), std::future::pending());
    with_sources(&outcome.unwrap_err())
}

#[test]
fn what_is_in_the_way_is_said_in_one_line_that_tells_what_to_do() {
    if !namespace() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    ip("link add rb0 type veth peer name other");
    let missing = refusal(router(directory.path()));
    ip("link add ra0 type veth peer name another");
    ip("link set ra0 up");
    ip("link set another up");
    ip("address add 192.0.2.1/24 dev ra0");
    ip("route add default via 192.0.2.254 dev ra0");
    let default_route = refusal(router(directory.path()));
    ip("route delete default");
    let held = LinkLock::acquire("rb0", None).unwrap();
    let taken = refusal(router(directory.path()));
    drop(held);
    let path = directory.path().join("router.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let socket = refusal(router(directory.path()));
    drop(listener);

    for (message, words) in [
        (&missing, ["no Ethernet device \"ra0\"", "rb0"]),
        (&default_route, ["default route", "--take"]),
        (&taken, ["link b (rb0) is taken", "another engine of this process owns it"]),
        (&socket, ["router.sock", "listens there"]),
    ] {
        assert!(words.iter().all(|word| message.contains(word)) && !message.contains('\n'), "{message}");
    }
    assert_eq!(command("nft", "list ruleset"), "", "a refused engine holds nothing");
    Run::start(vec![router(directory.path())]).stop();
}

#[test]
fn a_flood_of_unknown_neighbours_is_bounded_and_the_sum_holds() {
    if !namespace() {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    plug_in(&a, "ra0", 1);
    plug_in(&b, "rb0", 2);
    let directory = tempfile::tempdir().unwrap();
    let run = Run::start(vec![router(directory.path())]);
    eventually("forwarding", || pings(&a, "10.66.2.2"));

    a.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in 0..20_000u32 {
            let _ = socket.send_to(b"x", (std::net::Ipv4Addr::from(0x0a42_0200 + 3 + number % 250), 9));
        }
    });

    eventually("forwarding again", || pings(&a, "10.66.2.2"));
    // The rest may still wait in the other worker's ring, and the host's own kernel may have dropped some on the way.
    eventually("most of the flood was received and the sum holds", || {
        let counters = get(directory.path(), "router", "counters");
        let count = |name: &str| counters[name].as_u64().unwrap();
        let fates = ["forwarded", "hairpinned", "punted", "dropped"];
        assert_eq!(count("received"), fates.iter().map(|name| count(name)).sum::<u64>(), "{counters}");
        count("received") + count("ring_dropped") > 10_000
    });
    run.stop();
}
