//! Tests of devices as an engine finds and leaves them: down, without carrier, under another name.

use super::*;

/// Makes a veth pair whose one end is down and whose other end is up.
fn unplugged(name: &str, address: &str) {
    ip(&format!("link add {name} address {address} type veth peer name {name}-far"));
    ip(&format!("link set {name}-far up"));
}

fn flags(device: &str) -> String {
    command("ip", &format!("-o link show {device}"))
}

fn link(name: &str, device: &str, vlan: Option<u16>, subnet: u8) -> String {
    let vlan = vlan.map(|vlan| format!("vlan = {vlan}\n")).unwrap_or_default();
    format!("[[link]]\nname = \"{name}\"\ndevice = \"{device}\"\n{vlan}addresses = [\"10.67.{subnet}.1/24\"]\n")
}

#[test]
fn a_device_that_is_down_is_set_up_while_engines_have_it_and_down_again_afterwards() {
    if !namespace() {
        return;
    }
    unplugged("rc0", "02:00:00:00:67:01");
    unplugged("rd0", "02:00:00:00:67:02");
    ip("link set rd0 up");
    let directory = tempfile::tempdir().unwrap();
    // The first engine has the device for one VLAN, the second for another: the one that stops first leaves the device
    // up.
    let outer = file(directory.path(), "outer", &link("a", "rc0", Some(10), 1));
    let inner = file(directory.path(), "inner", &[link("a", "rc0", Some(20), 2), link("b", "rd0", None, 3)].concat());
    let run = Run::start(vec![outer, inner]);
    let links = |engine: &str| get(directory.path(), engine, "links");

    eventually("the links are up", || ["outer", "inner"].iter().all(|engine| links(engine)[0]["state"] == "up"));
    assert_eq!(links("outer")[0]["reason"], Value::Null);
    ip("link set rc0-far down");
    eventually("the reason is told", || links("outer")[0]["reason"] == "no carrier");
    ip("link set rc0-far up");

    // A device that is set down later is meant to be down.
    ip("link set rc0 down");
    eventually("that is told too", || links("outer")[0]["reason"] == "set down");
    ip("link set rc0 up");
    eventually("and over", || links("outer")[0]["state"] == "up");

    run.stop();
    assert!(flags("rc0").contains("state DOWN") && !flags("rc0").contains(",UP"), "{}", flags("rc0"));
    assert!(flags("rd0").contains(",UP"), "it was up before: {}", flags("rd0"));
    assert!(command("ip", "-d link show rc0").contains("promiscuity 0"));
}

#[test]
fn a_device_that_was_set_up_for_an_engine_that_does_not_start_is_down_again() {
    if !namespace() {
        return;
    }
    unplugged("re0", "02:00:00:00:67:03");
    ip("link add rf0 type veth peer name rf1");
    let directory = tempfile::tempdir().unwrap();
    let links = [link("a", "re0", None, 1), link("b", "rf0", None, 2)].concat();
    let path = directory.path().join("a-file");
    std::fs::write(&path, "").unwrap();
    // The session log cannot be a directory, so the engine fails after it has opened its devices and before it starts
    // threads.
    let mut refused = file(directory.path(), "outer", &links);
    refused.config.log.sessions = Some(path.join("below-a-file.json"));

    refusal(refused);

    assert!(!flags("re0").contains(",UP"), "{}", flags("re0"));
}

#[test]
fn a_device_that_is_meant_by_its_address_is_followed_under_another_name() {
    if !namespace() {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    plug_in(&a, "ra0", 1);
    plug_in(&b, "rb0", 2);
    let mac = crate::io::netdev::find("rb0").unwrap().mac;
    let directory = tempfile::tempdir().unwrap();
    let text = "\
[[link]]
name = \"a\"
device = \"ra0\"
addresses = [\"10.66.1.1/24\", \"fd66:1::1/64\"]
[[link]]
name = \"b\"
device = \"mac:MAC\"
addresses = [\"10.66.2.1/24\", \"fd66:2::1/64\"]
";
    let run = Run::start(vec![file(directory.path(), "router", &text.replace("MAC", &mac.to_string()))]);
    let device = || get(directory.path(), "router", "links")[1]["device"].clone();
    eventually("forwarding", || pings(&a, "10.66.2.2"));
    assert_eq!(device(), "rb0");
    assert!(
        matches!(LinkLock::acquire("rb0", None), Err(crate::io::lock::LockError::Held { .. })),
        "owned by its name"
    );

    ip("link set rb0 name moved");
    eventually("the new name is told", || device() == "moved");
    assert!(pings(&a, "10.66.2.2"));
    eventually("the kernel's stack is kept off by that name", || command("nft", "list ruleset").contains("\"moved\""));

    ip("link delete moved");
    ip(&format!("link add other address {mac} type veth peer name h0 netns {}", b.id));
    b.ip("link set h0 up");
    b.ip("address add 10.66.2.2/24 dev h0");
    b.ip("route add default via 10.66.2.1");
    eventually("a card that comes back elsewhere is set up and used", || device() == "other" && pings(&a, "10.66.2.2"));
    run.stop();
}
