//! Fair shares of the ports in `full-nat`.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::farm::{Farm, Net, Plan, farm, service};
use super::host::{Datagrams, ask, datagrams};

/// Sends empty datagrams of one client, each from the next source port, until it is dropped.
struct Flood(Child);

impl Flood {
    fn start(farm: &Farm, first_port: u16, micros: u32) -> Self {
        let (from, to, interval) = (Net::V4.client(7).to_string(), Net::V4.vip(80).to_string(), format!("u{micros}"));
        let mut command = farm.command("client", "hping3");
        command.args(["--udp", "-q", "-n", "-p", "53", "-i", &interval, "-a", &from, "-s", &first_port.to_string()]);
        command.arg(to).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("hping3 runs"))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_client_that_takes_every_port_it_can_get_leaves_ports_to_another() {
    let full = "protocol = \"udp\"\nmode = \"full-nat\"\n[service.check]\nkind = \"none\"";
    farm(Plan::new(1, service("dns", 80, 53, full, 1)), |farm| {
        let engine = farm.engine();
        let _name = Datagrams::start(&farm.namespace("s1"), "s1", (Net::V4.farm(11), 53).into());
        // Empty datagrams must not be answered.
        farm.nft(
            "s1",
            "table inet mute { chain in { type filter hook input priority 0; udp dport 53 udp length 8 drop; }; }",
        );

        let flood = Flood::start(farm, 1, 60);
        let took = engine.wait_until(Duration::from_secs(30), "the client has its share", |engine| {
            engine.counter("drop_source_share") > 0
        });
        drop(flood);
        let held = engine.counter("sessions_created");
        eprintln!("{held} flows in {took:?}");
        assert!((57_344..57_800).contains(&held), "eight ninths of 64,512 ports: {held}");

        // The flood goes on, and the other client is served.
        let before = engine.counter("drop_source_share");
        let _flood = Flood::start(farm, 60_000, 1_000);
        let to = SocketAddr::from((Net::V4.vip(80), 53));
        for number in 0..50 {
            let socket = datagrams(&farm.namespace("client"), Net::V4.client(100));
            let (name, ..) = ask(&socket, to, b"who?").unwrap_or_else(|error| panic!("request {number}: {error}"));
            assert_eq!(name, "s1");
        }
        engine.wait_until(Duration::from_secs(5), "it still asks for more", |engine| {
            engine.counter("drop_source_share") > before
        });
        assert_eq!(engine.counter("drop_snat_exhausted"), 0);
    });
}
