//! Farms of thousands of servers: their checks are spread over time, and the cost of a change depends on the size of
//! the change alone. One host is all servers: it has every address of a prefix.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use super::capture::Capture;
use super::farm::{Farm, NETS, Net, Plan, farm, service};
use super::host::Program;

/// The address of a server of a large farm.
fn member(net: Net, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match net {
        Net::V4 => Ipv4Addr::new(10, 50, high, low).into(),
        Net::V6 => Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, number).into(),
    }
}

/// The name of the server with this address.
fn name_of(address: &str) -> String {
    let number = match address.parse().expect("an address") {
        IpAddr::V4(address) => u16::from_be_bytes([address.octets()[2], address.octets()[3]]),
        IpAddr::V6(address) => address.segments()[7],
    };
    format!("m{number}")
}

/// A service of port 80 with this many servers of two addresses each, all of them s1.
fn large(name: &str, vip: u8, more: &str, servers: u16) -> String {
    let mut text = service(name, vip, 80, more, 0);
    for number in 1..=servers {
        let [v4, v6] = NETS.map(|net| member(net, number));
        let server = format!("[[service.server]]\nname = \"m{number}\"\naddress = [\"{v4}\", \"{v6}\"]");
        writeln!(text, "{server}").expect("a String takes everything");
    }
    text
}

/// The route to the servers of a large farm.
fn way() -> String {
    let [v4, v6] = NETS.map(|net| net.farm(11));
    format!("\n[[route]]\nto = [\"10.50.0.0/16\", \"fd00:50::/64\"]\nvia = [\"{v4}\", \"{v6}\"]\n")
}

/// Gives s1 every address of the farm.
fn be_all(farm: &Farm) {
    farm.ip("s1", &["route add local 10.50.0.0/16 dev lo", "route add local fd00:50::/64 dev lo"].map(String::from));
}

#[test]
fn a_thousand_http_checks_a_second_are_spread_over_the_second_and_cost_less_than_a_processor() {
    const SECONDS: u32 = 6;
    const BINS: usize = 20;
    const SHARE: usize = 1_000 / BINS;
    let check =
        "[service.check]\nkind = \"http\"\npath = \"/healthz\"\ninterval = \"1s\"\ntimeout = \"900ms\"\nrise = 1";
    farm(Plan::new(1, way() + &large("web", 80, check, 500)), |farm| {
        be_all(farm);
        // Room for every check of a moment in which the program had no processor.
        let listen = "listen 80 backlog=4096; listen [::]:80 backlog=4096;";
        let _nginx = farm.nginx("s1", &format!("server {{ {listen} location / {{ return 200 well; }} }}"));
        farm.wait_all_up();

        let filter = "dst port 80 and (tcp[tcpflags] == tcp-syn or (ip6 and ip6[6] == 6 and ip6[53] == 2))";
        let (capture, before) = (Capture::start(farm, "s1", "eth0", filter), farm.processor_time());
        let withheld = farm.withheld();
        sleep(Duration::from_secs(1) * SECONDS);
        let spent = (farm.processor_time() - before) / SECONDS;
        let withheld = withheld.so_far() / SECONDS;
        let packets = capture.stop();

        // Counts by second, and within it by twentieth of a second.
        let first = packets.first().expect("checks are sent").at;
        let mut seconds = [[0; BINS]; SECONDS as usize];
        for packet in &packets {
            let bin = (packet.at - first).as_millis() as usize * BINS / 1_000;
            if let Some(second) = seconds.get_mut(bin / BINS) {
                second[bin % BINS] += 1;
            }
        }
        let rate = seconds.as_flattened().iter().sum::<usize>() / SECONDS as usize;
        // A busy machine may delay everything for a moment, and the delayed checks then come together. Checks that are
        // not spread are not so in any second.
        let most = seconds.iter().filter_map(|bins| bins.iter().max()).min().copied().unwrap_or_default();
        eprintln!(
            "{rate} checks a second, at most {most} in 50 ms, {spent:?} of processor time a second, {withheld:?} withheld: {seconds:?}"
        );
        // A check whose time has passed while the engine waited for a processor is left out.
        let least = 850_usize.saturating_sub(withheld.as_millis() as usize).max(500);
        assert!((least..=1_150).contains(&rate), "each server is asked once a second in each family: {rate}");
        assert!(most <= 4 * SHARE, "{seconds:?}");
        // An unoptimised engine takes about ten times the instructions.
        let processors = if cfg!(debug_assertions) { 2 } else { 1 };
        assert!(spent < Duration::from_secs(processors), "{spent:?} a second");
        let of = farm.engine().service("web");
        assert!(of.servers.iter().all(|server| server.state.name() == "up"), "all are up at the end as they were");
    });
}

#[test]
fn a_change_in_a_service_of_4128_servers_is_quick_and_in_force_at_once_and_nobody_loses_a_packet() {
    const SERVERS: u16 = 4_128;
    let unchecked = "[service.check]\nkind = \"none\"";
    let text = way()
        + &large("turns", 80, unchecked, SERVERS)
        + &large("hashed", 81, &format!("scheduler = \"hash\"\n{unchecked}"), SERVERS);
    farm(Plan::new(1, text), |farm| {
        be_all(farm);
        let engine = farm.engine();
        let _program = Program::many(&farm.namespace("s1"), 80);
        for net in NETS {
            let first: BTreeSet<_> = farm.answers(net.client(7), (net.vip(80), 80), 20).into_iter().collect();
            assert_eq!(first.len(), 20, "everybody has a turn: {first:?}");
        }

        // Packets are forwarded while the engine changes.
        let mut ping = farm.command("client", "ping");
        ping.args(["-i", "0.01", "-c", "300", "-W", "2", &Net::V4.farm(11).to_string()]);
        let ping = ping.stdout(Stdio::piped()).spawn().expect("ping runs");
        let (before, mut took) = (farm.processor_time(), Vec::new());
        let mut set = |order: String| {
            let start = tokio::time::Instant::now();
            engine.set(&order);
            took.push(start.elapsed());
        };
        for net in NETS {
            let (from, vip) = (net.client(7), (net.vip(81), 80));
            let own = farm.answers(from, vip, 1).remove(0);
            let server = format!("server hashed/{}", name_of(&own));
            for (out, back) in [("maint", "default"), ("weight=0", "weight=default")] {
                set(format!("{server} {out}"));
                assert!(!farm.answers(from, vip, 2).contains(&own), "{own} has {out}");
                set(format!("{server} {back}"));
                assert_eq!(farm.answers(from, vip, 2), [own.as_str(); 2], "its clients come back with it");
            }

            // The server whose turn is next has no session.
            let vip = (net.vip(80), 80);
            let next = (1..=SERVERS).map(|number| format!("m{number}"));
            let answers = farm.answers(from, vip, 2);
            let at = |name: &str| next.clone().position(|next| next == name).expect("one of them");
            let [first, second] = [0, 1].map(|index| at(&name_of(&answers[index])));
            assert_eq!(second, first + 1, "equals have their turns in order");
            for order in ["maint", "default", "weight=0"] {
                set(format!("server turns/m{} {order}", second + 2));
            }
            let after = name_of(&farm.answers(from, vip, 1)[0]);
            assert_eq!(at(&after), second + 2, "who has no weight is passed over");
        }
        let spent = farm.processor_time() - before;
        let pinged = ping.wait_with_output().expect("ping ends");
        let told = String::from_utf8_lossy(&pinged.stdout);
        let slowest = took.iter().max().copied().unwrap_or_default();
        let trips = told.lines().last().unwrap_or_default();
        eprintln!("{} changes, the slowest {slowest:?}, {spent:?} of processor time; {trips}", took.len());
        assert!(slowest < Duration::from_secs(1), "{took:?}");
        assert!(told.contains(" 0% packet loss"), "{told}");
    });
}
