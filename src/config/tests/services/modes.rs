//! Tests of what each mode of a service demands: ports, source addresses, ways to the servers.

use super::*;

#[test]
fn what_is_not_translated_cannot_change_its_port_or_source() {
    let text = service("mode = \"direct\"");
    refused(
        &text,
        &["port 8080 of the server is not port 80 of the service", "reaches the server as the client sent it"],
    );
    let same = text.replace("port = 8080", "port = 80");
    assert_eq!(said(&same), "", "no port is translated");
    refused(
        &same.replace("protocol =", "snat = \"10.10.20.240\"\nprotocol ="),
        &["`snat` is for `full-nat`", "as the client sent it"],
    );
    refused(&service("snat = \"10.10.20.240\""), &["the servers see the clients' own addresses"]);
    refused(&service("mode = \"tunnel\""), &["port 8080 of the server is not port 80 of the service", "with `tunnel`"]);
    refused(&service("mode = \"tunnel\"\nsnat = \"10.10.20.240\""), &["`snat` is for `full-nat`: with `tunnel`"]);
    let routed = service("mode = \"direct\"").replace("port = 8080\n", "").replace("10.10.20.12", "192.0.2.12");
    refused(
        &routed,
        &["192.0.2.12 is in no connected subnet", "only the MAC address changes", "mode = \"tunnel\" or \"full-nat\""],
    );
}

#[test]
fn a_tunnel_leads_to_an_address_of_either_family_behind_a_router_but_not_behind_firewalls() {
    let text = service("mode = \"tunnel\"").replace("port = 8080\n", "").replace("10.10.20.12", "192.0.2.12");
    warned(&text, &["no link and no route leads to 192.0.2.12", "add a [[route]]"]);
    let routed = format!("{text}\n[[route]]\nto = \"192.0.2.0/24\"\nvia = \"10.10.20.254\"\n");
    assert_eq!(said(&routed), "");
    // One address serves both VIPs.
    let one_family = routed.replace("[\"192.0.2.12\", \"fd00:20::12\"]", "\"192.0.2.12\"");
    assert_ne!(one_family, routed);
    assert_eq!(said(&one_family), "");

    let behind = format!(
        "{}\n[[service]]\nname = \"web\"\naddress = \"198.51.100.80\"\nprotocol = \"tcp\"\nport = 80\nmode = \"tunnel\"\n\
         [[service.server]]\nname = \"s1\"\naddress = \"203.0.113.11\"\n",
        super::super::GOOD
    );
    refused(&behind, &["the route to 203.0.113.11 leads through firewalls", "that names a gateway"]);
}

#[test]
fn source_addresses_are_judged() {
    let snat = |snat: &str| service(&format!("mode = \"full-nat\"\nsnat = {snat}"));
    assert_eq!(said(&snat("[\"10.10.20.240-10.10.20.243\", \"fd00:20::240\"]")), "");
    warned(&snat("[\"192.0.2.1\", \"fd00:20::240\"]"), &["192.0.2.1 is in no link's subnet"]);
    refused(&snat("\"10.10.20.240\""), &["`snat` has no IPv6 address, but VIP 2001:db8:1::80 is one"]);
    refused(&snat("\"10.10.20.243-10.10.20.240\""), &["ends before it begins"]);
    refused(&snat("\"10.10.0.0-10.10.20.240\""), &["a range has at most 256 addresses"]);
    refused(&snat("\"10.10.20.240-fd00::1\""), &["a range has one family"]);
    refused(&snat("[\"10.10.20.240\", \"10.10.20.240\", \"fd00:20::240\"]"), &["10.10.20.240 stands twice"]);
    refused(&snat("[\"198.51.100.80\", \"fd00:20::240\"]"), &["198.51.100.80 is the VIP of service \"web\", here"]);
}

#[test]
fn the_servers_of_a_direct_service_are_told_how_to_take_the_vip() {
    let nat = requirements(&load_text(&service("")).config.unwrap());
    assert!(!nat.contains("arp_ignore"), "{nat}");
    let file = load_text(&service("mode = \"direct\"").replace("port = 8080\n", ""));
    let told = requirements(&file.config.unwrap_or_else(|| panic!("{}", file.diagnostics)));
    for line in [
        "Linux:    sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
        "ip address add 198.51.100.80/32 dev lo",
        "ip address add 2001:db8:1::80/128 dev lo nodad",
        "netsh interface ipv4 add address vip 198.51.100.80 255.255.255.255",
        "netsh interface ipv6 set interface lan weakhostreceive=enabled",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[test]
fn how_many_flows_fit_behind_source_addresses_and_what_one_client_gets_is_told() {
    let farm = FARM.replace("port = 80\n", "port = 80\nmode = \"full-nat\"\n");
    let with = |farm: &str| requirements(&load_text(farm).config.unwrap());
    let told = with(&farm);
    for family in ["IPv4", "IPv6"] {
        let line =
            format!("64512 {family} flows at a time to each server port by 1 source address; one client gets 57344");
        assert!(told.contains(&line), "{told}");
    }
    let told = with(&format!("{farm}\n[limits]\nsource-sessions = 500\n"));
    assert!(told.contains("one client gets 500 at most"), "{told}");
    assert!(!with(FARM).contains("flows at a time"));
}
