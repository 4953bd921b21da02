//! The hosts of a farm, their cables and addresses.

use std::net::IpAddr;

use fwlb::lab::command::Command;

use super::{Arms, Farm, NETS, Net};

impl Farm {
    pub(super) fn build(&self) {
        std::fs::create_dir_all(self.directory.join("state")).expect("may be made");
        let run = |command: Command| drop(command.run().unwrap_or_else(|error| panic!("{error}")));
        let mut hosts = vec!["switch".to_owned(), "client".to_owned(), "lb".to_owned()];
        hosts.extend((self.plan.arms == Arms::One).then(|| "router".to_owned()));
        hosts.extend((1..=self.plan.servers).map(|number| format!("s{number}")));
        let names: Vec<_> = hosts.iter().map(|host| format!("netns add {}", self.namespace(host))).collect();
        run(Command::ip(&names));
        let switch = self.namespace("switch");
        run(Command::sysctl(&switch, ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"]));
        for host in &hosts[1..] {
            run(Command::sysctl(&self.namespace(host), STATION));
        }
        let mut cables = Vec::new();
        let mut ports =
            ["br-clients", "br-farm"].map(|bridge| format!("link add {bridge} type bridge mcast_snooping 0")).to_vec();
        ports.extend(["br-clients", "br-farm"].map(|bridge| format!("link set {bridge} up")));
        let mut plug = |host: &str, device: &str, port: &str, bridge: &str| {
            let (from, name) = (self.namespace(host), &switch);
            cables.push(format!("link add name {device} netns {from} type veth peer name {port} netns {name}"));
            ports.push(format!("link set {port} master {bridge}"));
            ports.push(format!("link set {port} up"));
        };
        plug("client", "eth0", "client", "br-clients");
        plug("lb", "farm", "lb-farm", "br-farm");
        match self.plan.arms {
            Arms::Two => plug("lb", "clients", "lb-clients", "br-clients"),
            Arms::One => {
                plug("router", "clients", "r-clients", "br-clients");
                plug("router", "farm", "r-farm", "br-farm");
            }
        }
        for number in 1..=self.plan.servers {
            plug(&format!("s{number}"), "eth0", &format!("s{number}"), "br-farm");
        }
        run(Command::ip(&cables));
        run(Command::ip_in(&switch, &ports));
        self.address();
    }

    fn address(&self) {
        let own = |address: IpAddr, device: &str| match address {
            IpAddr::V4(address) => format!("address add {address}/24 dev {device}"),
            IpAddr::V6(address) => format!("address add {address}/64 dev {device} nodad"),
        };
        let up = |devices: &[&str]| -> Vec<String> {
            let names = ["lo"].iter().chain(devices);
            names.map(|device| format!("link set {device} up")).collect()
        };
        let gateway = if self.plan.arms == Arms::One { 254 } else { 1 };
        let mut client = up(&["eth0"]);
        for net in NETS {
            client.extend([7].into_iter().chain(100..=139).map(|number| own(net.client(number), "eth0")));
            client.push(format!("route add default via {}", net.client(gateway)));
        }
        self.ip("client", &client);
        for number in 1..=self.plan.servers {
            let mut lines = up(&["eth0"]);
            for net in NETS {
                lines.push(own(net.farm(10 + number), "eth0"));
                lines.push(format!("route add default via {}", net.farm(gateway)));
            }
            self.ip(&format!("s{number}"), &lines);
        }
        match self.plan.arms {
            Arms::Two => self.ip("lb", &up(&["farm", "clients"])),
            Arms::One => {
                self.ip("lb", &up(&["farm"]));
                let mut lines = up(&["farm", "clients"]);
                for net in NETS {
                    lines.push(own(net.client(254), "clients"));
                    lines.push(own(net.farm(254), "farm"));
                }
                lines.push(format!("route add 203.0.113.0/24 via {}", Net::V4.farm(1)));
                lines.push(format!("route add 2001:db8:113::/64 via {}", Net::V6.farm(1)));
                self.ip("router", &lines);
                let router = self.namespace("router");
                let forward = Command::sysctl(&router, ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
                forward.run().unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}

/// The same settings as for the stations of the lab: see `src/lab/blueprint.rs`.
const STATION: [&str; 9] = [
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.icmp_ratelimit=0",
    "net.ipv6.icmp.ratelimit=0",
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.all.accept_ra=0",
    "net.ipv6.conf.default.accept_ra=0",
    "net.ipv4.ip_local_port_range=10000 60999",
];
