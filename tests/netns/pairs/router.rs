//! keepalived as the other node: a router that speaks VRRP and knows no sessions.

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use fwlb::ha::Role;
use fwlb::lab::{Engine, EngineFault, Side, Station, Stop, Topology};
use tokio::time::Instant;

use super::{ADVERTISE, TAKEN_WITHIN, active_after, pairs};
use crate::ground::{Rig, sandwich};

/// The priority of the engine beside it, which is the first node of its file.
const PRIORITY: u8 = 200;

/// A keepalived in the namespace of an engine, with the kernel as its router. It ends in order when it is dropped.
struct Keepalived {
    child: Child,
}

impl Keepalived {
    /// Starts it in the place of `station`, with a priority, and with or without the virtual MAC address.
    fn start(rig: &Rig, place: Engine, priority: u8, virtual_mac: bool) -> Self {
        let path = rig.lab.directory().join("keepalived.conf");
        std::fs::write(&path, configuration(rig.topology(), priority, virtual_mac)).expect("the directory is ours");
        let own = |link| Topology::own(place, link);
        let links = [
            ("clients", own(rig.topology().outer_toward_client())),
            ("fw-outer", own(rig.topology().outer_toward_firewalls(0))),
        ];
        let station = place.station();
        for (device, address) in links {
            let [v4, v6] = address.subnets();
            rig.exec(station, &["ip", "address", "replace", &v4, "dev", device]);
            rig.exec(station, &["ip", "address", "replace", &v6, "dev", device, "nodad"]);
        }
        rig.exec(station, &["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
        let firewall = rig.topology().leg(Side::Outer, 1);
        rig.exec(station, &["ip", "route", "replace", "203.0.113.0/24", "via", &firewall.v4.to_string()]);
        rig.exec(station, &["ip", "-6", "route", "replace", "2001:db8:113::/64", "via", &firewall.v6.to_string()]);
        let pid = |what: &str| rig.lab.directory().join(format!("keepalived-{what}.pid")).display().to_string();
        let log = std::fs::File::create(rig.lab.directory().join("keepalived.log")).expect("the directory is ours");
        let mut command = rig.lab.command(station, "keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file"]).arg(&path);
        command.args(["--pid", &pid("main"), "--vrrp_pid", &pid("vrrp")]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        Self { child: command.spawn().expect("keepalived runs (package keepalived)") }
    }

    /// Stops it in order: it removes its addresses, and advertises priority 0.
    fn stop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = std::process::Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        self.stop();
    }
}

/// keepalived.conf(5), with an instance for each link and family.
fn configuration(lab: &Topology, priority: u8, virtual_mac: bool) -> String {
    let vrid = Topology::vrid(Side::Outer);
    let interval = ADVERTISE.as_secs_f64();
    let (near, far) = (lab.outer_toward_client(), lab.outer_toward_firewalls(0));
    let first = format!("fe80::9568:{vrid}/64");
    let instances = [
        ("clients4", "clients", near.subnets()[0].clone(), None),
        ("clients6", "clients", first.clone(), Some(near.subnets()[1].clone())),
        ("firewalls4", "fw-outer", far.subnets()[0].clone(), None),
        ("firewalls6", "fw-outer", first, Some(far.subnets()[1].clone())),
    ];
    let names: Vec<_> = instances.iter().map(|(name, ..)| *name).collect();
    let mut text = format!(
        "global_defs {{\n  router_id other\n  vrrp_version 3\n}}\nvrrp_sync_group outer {{\n  group {{ {} }}\n}}\n",
        names.join("\n")
    );
    for (name, device, address, second) in instances {
        // The names of devices have 15 bytes at most.
        let mac = if virtual_mac { format!("use_vmac vr{name}") } else { String::new() };
        text += &format!(
            "vrrp_instance {name} {{\n  state BACKUP\n  interface {device}\n  {mac}\n  virtual_router_id {vrid}\n  \
             priority {priority}\n  advert_int {interval}\n  virtual_ipaddress {{\n    {address}\n    {}\n  }}\n}}\n",
            second.unwrap_or_default()
        );
    }
    text
}

/// Replaces the second outer engine by keepalived: the first one knows it as a node of kind `vrrp`.
fn beside_keepalived(priority: u8, virtual_mac: bool, test: impl FnOnce(&mut Rig, Engine, &mut Keepalived)) {
    sandwich(pairs, |rig| {
        let [engine, place] = Side::Outer.pair();
        rig.lab.stop_engine(place, Stop::Orderly).unwrap();
        rig.lab.stop_engine(engine, Stop::Orderly).unwrap();
        let path = rig.lab.configuration_file(engine);
        let text = std::fs::read_to_string(&path).expect("the laboratory wrote it");
        let sync = [1, 2].map(|host| format!("sync = \"10.255.1.{host}\""));
        assert!(text.contains(&sync[1]), "{text}");
        let text = text.replace(&sync[0], "").replace(&sync[1], &format!("kind = \"vrrp\"\npriority = {priority}"));
        std::fs::write(&path, text).unwrap();
        if priority < PRIORITY {
            // An engine leaves the role to whoever has it, as `preempt` says: it has to be the first.
            rig.lab.start_engine(engine).unwrap();
            rig.within(Duration::from_secs(10), "nobody else is there", |rig| has_role(rig, engine, Role::Active));
        }
        let mut other = Keepalived::start(rig, place, priority, virtual_mac);
        if priority > PRIORITY {
            rig.lab.start_engine(engine).unwrap();
        }
        test(rig, engine, &mut other);
    });
}

#[track_caller]
fn reaches_the_servers(rig: &Rig, patience: Duration) {
    for to in ["203.0.113.11", "2001:db8:113::11"] {
        rig.within(patience, &format!("the client reaches {to}"), |rig| {
            rig.output(Station::Client, &["ping", "-c", "1", "-W", "0.3", to]).status.success()
        });
    }
}

fn has_role(rig: &Rig, engine: Engine, role: Role) -> bool {
    rig.lab.node(engine).is_ok_and(|node| node.role == role)
}

#[test]
fn keepalived_takes_over_from_an_engine_that_dies_with_its_virtual_mac_and_without() {
    for virtual_mac in [true, false] {
        beside_keepalived(100, virtual_mac, |rig, engine, _| {
            sleep(Duration::from_secs(2));
            assert!(has_role(rig, engine, Role::Active), "keepalived leaves it the role");
            reaches_the_servers(rig, Duration::from_secs(2));

            rig.lab.fail_engine(engine, EngineFault::Killed).unwrap();

            // Besides the three intervals, neighbours without the virtual MAC address have to learn another one.
            reaches_the_servers(rig, Duration::from_secs(5));
        });
    }
}

#[test]
fn an_engine_takes_over_from_keepalived_with_its_virtual_mac_and_without() {
    for virtual_mac in [true, false] {
        beside_keepalived(250, virtual_mac, |rig, engine, other| {
            rig.within(Duration::from_secs(10), "keepalived has the better priority", |rig| {
                has_role(rig, engine, Role::Standby)
            });
            sleep(Duration::from_secs(1));
            assert!(has_role(rig, engine, Role::Standby));
            reaches_the_servers(rig, Duration::from_secs(3));

            let withheld = rig.withheld();
            let since = Instant::now();
            other.stop();
            let stopped = since.elapsed();
            let after = active_after(rig, engine, since);
            let withheld = withheld.so_far().min(TAKEN_WITHIN);
            // keepalived says that it stops at some time while it does.
            assert!(after <= stopped + TAKEN_WITHIN + withheld, "{after:?}, {stopped:?}, {withheld:?}");
            reaches_the_servers(rig, Duration::from_secs(3));
        });
    }
}
