use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use super::*;
use crate::io::testing::{Host, command, ip, namespace};
use crate::time::Duration;

/// A host on `is1`, the other end of `is0`, which has the address 192.0.2.1 and belongs to the engine.
fn neighbour() -> Host {
    let host = Host::new();
    ip(&format!("link add is0 type veth peer name is1 netns {}", host.id));
    ip("address add 192.0.2.1/24 dev is0");
    ip("link set is0 up");
    host.ip("address add 192.0.2.2/24 dev is1");
    host.ip("link set is1 up");
    host
}

fn pings(host: &Host) -> bool {
    host.run(|| {
        let ping =
            Command::new("ping").args(["-c", "3", "-i", "0.3", "-W", "1", "192.0.2.1"]).stdout(Stdio::null()).status();
        ping.expect("ping is installed").success()
    })
}

/// Whether the neighbour is refused (RST) by a closed port.
fn is_refused(host: &Host) -> bool {
    host.run(|| {
        let address = "192.0.2.1:9".parse().unwrap();
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
        error.kind() == io::ErrorKind::ConnectionRefused
    })
}

#[test]
fn the_kernel_answers_no_ping_arp_or_connection_while_it_is_held_and_does_again_afterwards() {
    if !namespace() {
        return;
    }
    let host = neighbour();
    assert!(pings(&host) && is_refused(&host), "the kernel answers by default");

    let mut isolation = Isolation::new("outer-1").unwrap();
    isolation.isolate("is0").unwrap();

    assert!(!pings(&host) && !is_refused(&host));
    host.ip("neighbour flush dev is1");
    assert!(!pings(&host), "without an entry for the neighbour, ARP is not answered either");
    let rules = command("nft", "list ruleset");
    for words in ["table netdev fwlb_", "_outer_1", "flags owner", "hook ingress device \"is0\"", "policy drop"] {
        assert!(rules.contains(words), "{words}: {rules}");
    }

    isolation.release("is0").unwrap();
    assert!(pings(&host), "let go");
    isolation.isolate("is0").unwrap();
    drop(isolation);
    assert_eq!(command("nft", "list ruleset"), "");
    assert!(pings(&host) && is_refused(&host));
}

#[test]
fn a_killed_process_leaves_no_rules() {
    if !namespace() {
        return;
    }
    ip("link add ik0 type veth peer name ik1");
    // The owner has to be another process: this test binary, told to run only the test that waits to be killed.
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "io::isolate::tests::hold_until_killed", "--ignored", "--nocapture"])
        .env("FWLB_TEST_HOLD", "ik0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = String::new();
    let mut stdout = owner.stdout.take().unwrap();
    while !heard.contains("holding") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).expect("the owner says when it holds the device");
        heard.push(char::from(byte[0]));
    }
    assert!(command("nft", "list ruleset").contains("policy drop"));

    owner.kill().unwrap();
    owner.wait().unwrap();

    assert_eq!(command("nft", "list ruleset"), "");
}

/// Not a test of its own, but the process that `a_killed_process_leaves_no_rules` kills.
#[test]
#[ignore = "waits to be killed by another test"]
fn hold_until_killed() {
    let Ok(device) = std::env::var("FWLB_TEST_HOLD") else { return };
    let mut isolation = Isolation::new("killed").unwrap();
    isolation.isolate(&device).unwrap();
    println!("holding");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn two_engines_may_hold_one_device_and_a_device_that_was_made_again_is_held_again() {
    if !namespace() {
        return;
    }
    let mut first = Isolation::new("engine").unwrap();
    let mut second = Isolation::new("engine").unwrap();
    {
        let host = neighbour();
        first.isolate("is0").unwrap();
        second.isolate("is0").unwrap();
        drop(second);
        assert!(!pings(&host), "the other engine holds it yet");
        ip("link delete is0");
    }
    let host = neighbour();
    first.isolate("is0").unwrap();

    assert!(!pings(&host));
    assert_eq!(command("nft", "list ruleset").matches("policy drop").count(), 1);
    first.release("is0").unwrap();
    assert!(pings(&host));
}

#[test]
fn the_kernel_forwards_no_second_copy_of_a_frame() {
    if !namespace() {
        return;
    }
    let (from, to) = (Host::new(), Host::new());
    for (host, device, subnet) in [(&from, "if0", 1), (&to, "if1", 2)] {
        ip(&format!("link add {device} type veth peer name h0 netns {}", host.id));
        ip(&format!("address add 10.77.{subnet}.1/24 dev {device}"));
        ip(&format!("link set {device} up"));
        host.ip(&format!("address add 10.77.{subnet}.2/24 dev h0"));
        host.ip("link set h0 up");
        host.ip(&format!("route add default via 10.77.{subnet}.1"));
    }
    command("sysctl", "-q -w net.ipv4.ip_forward=1");
    let (sender, receiver) = std::sync::mpsc::channel();
    let ask = |socket: UdpSocket| {
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        move || socket.recv(&mut [0; 64]).is_ok()
    };
    to.run(move || sender.send(UdpSocket::bind("10.77.2.2:7").unwrap()).unwrap());
    let receiver = receiver.recv().unwrap();
    let arrives = ask(receiver.try_clone().unwrap());
    let send = || from.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "10.77.2.2:7").unwrap());
    // On a busy machine, resolving the first frame's address may take longer than one attempt waits.
    let forwards = || {
        send();
        arrives()
    };
    assert!((0..30).any(|_| forwards()), "the kernel forwards by default");
    while arrives() {}

    let mut isolation = Isolation::new("forward").unwrap();
    isolation.isolate("if0").unwrap();

    assert!(!forwards(), "the kernel forwarded a frame of the engine's device");
}
