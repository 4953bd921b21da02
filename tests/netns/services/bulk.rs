//! Large transfers through a translation: super-frames of the hosts' default offloads, and links of a smaller MTU.

use std::process::Output;

use super::farm::{Arms, Farm, NETS, Plan, QUICK, farm, service};
use super::host::Program;
use crate::ground::{checksum_errors, said};

const MEGABYTES: usize = 50;

fn full(vip: u8) -> String {
    service("full", vip, 80, &format!("mode = \"full-nat\"\n[service.check]\nkind = \"tcp\"\n{QUICK}"), 1)
}

fn nat(vip: u8) -> String {
    service("nat", vip, 80, &format!("[service.check]\nkind = \"tcp\"\n{QUICK}"), 1)
}

fn curl(farm: &Farm, words: &[&str]) -> Output {
    let mut command = vec!["curl", "-sS", "-g", "-m", "30"];
    command.extend(words);
    farm.output("client", &command)
}

fn digest(path: &str) -> String {
    let output = std::process::Command::new("sha256sum").arg(path).output().expect("sha256sum runs");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a digest").to_owned()
}

#[test]
fn a_file_of_fifty_megabytes_arrives_undamaged_through_nat_and_full_nat() {
    farm(Plan::new(1, nat(80) + &full(81)), |farm| {
        let file = farm.directory().join("file").display().to_string();
        // Bytes without a period that a lost or doubled segment could hide in.
        let mut state = 1_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(MEGABYTES << 20)
        .collect();
        std::fs::write(&file, bytes).expect("may be written");
        let wanted = digest(&file);
        let _nginx = farm
            .nginx("s1", &format!("server {{ listen [::]:80 ipv6only=off; root {}; }}", farm.directory().display()));
        farm.wait_all_up();

        for net in NETS {
            for vip in [80, 81] {
                let got = farm.directory().join("got").display().to_string();
                let output = curl(farm, &["-o", &got, &format!("{}/file", net.url(net.vip(vip)))]);
                assert!(output.status.success(), "{net:?} {vip}: {}", said(&output));
                assert_eq!(digest(&got), wanted, "{net:?} {vip}");
            }
        }
        for host in ["client", "s1"] {
            assert_eq!(checksum_errors(|words| farm.exec(host, &words.join(" "))), 0, "{host}");
        }
    });
}

/// Sends three megabytes to the echo server of a service and receives them again.
#[track_caller]
fn echo_much(farm: &Farm, net: super::farm::Net, vip: u8) {
    let mut connection = farm.connect(net.client(7), (net.vip(vip), 80)).expect("is served");
    let said: Vec<u8> = (0..3_000_000_u32).map(|byte| (byte % 251) as u8).collect();
    connection.echo(&said).unwrap_or_else(|error| panic!("{net:?} {vip}: {error}"));
}

#[test]
fn the_client_is_told_the_mtu_of_the_link_to_the_servers() {
    let plan = Plan { link_mtu: Some(1400), ..Plan::new(1, nat(80) + &full(81)) };
    farm(plan, |farm| {
        let _program = Program::echo(&farm.namespace("s1"), "s1", 80);
        farm.wait_all_up();
        for net in NETS {
            for vip in [80, 81] {
                echo_much(farm, net, vip);
                let route = farm.exec("client", &format!("ip route get {}", net.vip(vip)));
                assert!(route.contains("mtu 1400"), "the client has learned it from the engine: {route}");
            }
        }
        assert!(farm.engine().counter("drop_too_big") > 0);
    });
}

#[test]
fn a_routers_word_about_the_mtu_reaches_the_server_in_its_own_terms() {
    let plan = Plan { arms: Arms::One, ..Plan::new(1, full(81)) };
    farm(plan, |farm| {
        let _program = Program::echo(&farm.namespace("s1"), "s1", 80);
        farm.wait_all_up();
        // The client assumes an MTU of 1500 and announces it as its MSS; the router's link to it carries less.
        farm.ip("router", &["link set clients mtu 1400".to_owned()]);
        for net in NETS {
            let via = net.client(254);
            farm.ip("client", &[format!("route replace default via {via} mtu lock 1400 advmss 1440")]);
            echo_much(farm, net, 81);
            let route = farm.exec("s1", &format!("ip route get {}", net.farm(1)));
            assert!(route.contains("mtu 1400"), "the server has learned it of the engine's address: {route}");
        }
    });
}

/// Linux sends bulk data through a tunnel in super-frames, whose segments are inside the tunnel.
#[test]
fn the_bulk_of_a_tunnel_between_hosts_arrives() {
    for workers in [1, 2] {
        farm(Plan { workers, ..Plan::new(1, nat(80)) }, |farm| {
            let _program = Program::echo(&farm.namespace("s1"), "s1", 80);
            farm.wait_all_up();
            // Over IPv4 without a checksum of its own, over IPv6 with one.
            for (number, net) in (0_u8..).zip(NETS) {
                let inside = |last: u8| std::net::IpAddr::from([192, 168, 70 + number, last]);
                let ends = [("client", 7, net.client(7), net.farm(11)), ("s1", 11, net.farm(11), net.client(7))];
                for (host, last, local, remote) in ends {
                    let port = 4789 + u16::from(number);
                    let lines = [
                        format!("link add vx{number} type vxlan id 7 local {local} remote {remote} dstport {port}"),
                        format!("link set vx{number} up mtu 1400"),
                        format!("address add {}/24 dev vx{number}", inside(last)),
                    ];
                    farm.ip(host, &lines);
                }
                let mut connection = farm.connect(inside(7), (inside(11), 80)).expect("the tunnel stands");
                let said: Vec<u8> = (0..3_000_000_u32).map(|byte| (byte % 251) as u8).collect();
                connection.echo(&said).unwrap_or_else(|error| panic!("{net:?}: {error}"));
            }
            assert_eq!((farm.engine().counter("tx_refused"), farm.engine().counter("drop_not_segmentable")), (0, 0));
            for host in ["client", "s1"] {
                assert_eq!(checksum_errors(|words| farm.exec(host, &words.join(" "))), 0, "{host}");
            }
        });
    }
}
