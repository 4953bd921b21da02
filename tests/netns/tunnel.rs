//! Mode `tunnel` on real packets: a server that decapsulates, the kernel's TCP at both ends, curl and Python's web
//! server.
//!
//! ```text
//!   client ── router ──┬── lb (VIP routed to it)
//!                ▲     └── s1: decapsulates, VIP on its loopback
//!                └── answers of s1, not through the engine
//! ```
//!
//! The kernel of the test machines may lack a device for IP in IP, so that a program decapsulates (`decapsulate.py`).

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::ground::said;
use crate::services::farm::{Arms, Engine, Farm, NETS, Net, Plan, QUICK, farm};

const DECAPSULATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/decapsulate.py");
const WEBSITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/website.py");

/// A program at a host, which ends when it goes out of scope.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The VIPs on the loopback of `s1`, a web server on each of them, and the program that decapsulates.
struct Server {
    unpacker: Option<Program>,
    sites: Vec<Program>,
}

impl Server {
    fn up(farm: &Farm) -> Self {
        let lines = NETS.map(|net| match net {
            Net::V4 => format!("address add {}/32 dev lo", net.vip(80)),
            Net::V6 => format!("address add {}/128 dev lo nodad", net.vip(80)),
        });
        farm.ip("s1", &lines);
        Self { unpacker: Some(unpack(farm)), sites: NETS.map(|net| site(farm, net)).into() }
    }
}

fn unpack(farm: &Farm) -> Program {
    let mut command = farm.command("s1", "python3");
    command.arg(DECAPSULATE).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("python3 runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says so");
    assert_eq!(line, "ready\n");
    Program(child)
}

/// Python's web server on a VIP; it serves a directory listing.
fn site(farm: &Farm, net: Net) -> Program {
    let mut command = farm.command("s1", "python3");
    let vip = net.vip(80).to_string();
    command.args([WEBSITE, &vip, "/proc/sys/net"]);
    Program(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("python3 runs"))
}

/// A check that does not fail on a busy machine.
const PATIENT: &str = "interval = \"1s\"\ntimeout = \"900ms\"\nfall = 10\nrise = 1";

/// The service `web` in mode `tunnel` with one server, which has these addresses.
fn web(addresses: &[Net], pace: &str) -> String {
    let [v4, v6] = NETS.map(|net| net.vip(80));
    let server: Vec<_> = addresses.iter().map(|net| format!("\"{}\"", net.farm(11))).collect();
    format!(
        "\n[[service]]\nname = \"web\"\naddress = [\"{v4}\", \"{v6}\"]\nprotocol = \"tcp\"\nport = 80\nmode = \"tunnel\"\n\
         [service.check]\nkind = \"http\"\npath = \"/ipv4/\"\n{pace}\n\
         [[service.server]]\nname = \"s1\"\naddress = [{}]\n",
        server.join(", ")
    )
}

fn plan(addresses: &[Net], pace: &str) -> Plan {
    Plan { arms: Arms::One, ..Plan::new(1, web(addresses, pace)) }
}

/// Fetches a page with `bytes` of cookies, so that the request takes several packets.
#[track_caller]
fn fetch(farm: &Farm, net: Net, bytes: usize) {
    let url = match net {
        Net::V4 => format!("http://{}/", net.vip(80)),
        Net::V6 => format!("http://[{}]/", net.vip(80)),
    };
    let cookie = format!("Cookie: {}", "x".repeat(bytes));
    let words = ["curl", "-sS", "-g", "--max-time", "10", "-H", &cookie, "-o", "/dev/null", "-w", "%{http_code}", &url];
    let output = farm.output("client", &words);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200", "{net:?}: {}", said(&output));
}

#[test]
fn clients_are_served_through_a_tunnel_of_either_family_and_learn_its_mtu() {
    for (carriers, mtus) in
        [(&[Net::V4, Net::V6][..], [1480, 1460]), (&[Net::V4], [1480, 1480]), (&[Net::V6], [1460, 1460])]
    {
        farm(plan(carriers, PATIENT), |farm| {
            let _server = Server::up(farm);
            let engine = farm.engine();
            let both = |engine: &Engine| engine.server("web/s1").checks.iter().all(|check| check.state.name() == "up");
            engine.wait_until(Duration::from_secs(20), "both families are served", both);
            for (net, mtu) in NETS.into_iter().zip(mtus) {
                fetch(farm, net, 10);
                // GSO frames of the client's kernel, whose segments exceed the tunnel's MTU at first.
                for _ in 0..3 {
                    fetch(farm, net, 40_000);
                }
                let route = farm.exec("client", &format!("ip route get {}", net.vip(80)));
                assert!(route.contains(&format!("mtu {mtu}")), "{net:?} through {carriers:?}: {route}");
            }
            let sessions = engine.sessions();
            let tunnels: Vec<_> = sessions.iter().filter_map(|session| session.tunnel.clone()).collect();
            assert_eq!((sessions.len(), tunnels.len()), (8, 8));
            let own = carriers.iter().map(|net| net.farm(11).to_string()).collect::<Vec<_>>();
            assert!(tunnels.iter().all(|tunnel| own.contains(tunnel)), "{tunnels:?}");
            let told = said(&engine.fwlb(&format!("explain tcp {}:9 {}:80", Net::V4.client(7), Net::V4.vip(80))));
            assert!(told.contains("which the server unpacks"), "{told}");
        });
    }
}

#[test]
fn checks_take_the_tunnel_and_fail_for_their_own_reasons() {
    farm(plan(&[Net::V4], QUICK), |farm| {
        let mut server = Server::up(farm);
        let engine = farm.engine();
        engine.wait("web/s1", "up");

        server.sites.clear();
        engine.wait("web/s1", "down");
        let reason = engine.server("web/s1").reason.unwrap_or_default();
        assert!(reason.contains("connection refused"), "{reason}");

        server.sites.extend(NETS.map(|net| site(farm, net)));
        engine.wait("web/s1", "up");

        // A server that does not decapsulate answers with ICMP errors.
        server.unpacker = None;
        engine.wait("web/s1", "down");
        let reason = engine.server("web/s1").reason.unwrap_or_default();
        assert!(reason.contains("no SYN-ACK in 150ms") && reason.contains("unreachable"), "{reason}");
        thread::sleep(Duration::from_millis(200));
        server.unpacker = Some(unpack(farm));
        engine.wait("web/s1", "up");
    });
}
