//! Writes the sections of the virtual services of a lab with a server farm.

use std::fmt::Write;

use super::{Entry, line, section};
use crate::lab::farm::{ECHO, HEALTH_PATH, LabFarm, ServiceMode, WEB, WEB_PORT};
use crate::lab::topology::{AddressPair, Topology};
use crate::lab::traffic::ECHO_PORT;

/// Writes the sections of the services.
pub(super) fn services(text: &mut String, lab: &Topology) {
    let Some(farm) = &lab.farm else { return };
    let web = Service {
        comment: "The pages. The VIP lies in no subnet of a link: its neighbours route it to this engine.",
        name: WEB,
        protocol: "tcp".into(),
        port: WEB_PORT,
        check: vec![
            ("kind", "http".into()),
            ("path", HEALTH_PATH.into()),
            ("expect-status", toml::Value::Array(vec![200.into()])),
        ],
    };
    let echo = Service {
        comment: "Echo: long sessions over TCP, datagrams over UDP. A server may be out here and in there.",
        name: ECHO,
        protocol: toml::Value::Array(vec!["tcp".into(), "udp".into()]),
        port: ECHO_PORT,
        check: vec![("kind", "tcp".into())],
    };
    for service in [web, echo] {
        service.write(text, lab, farm);
    }
}

struct Service {
    comment: &'static str,
    name: &'static str,
    protocol: toml::Value,
    port: u16,
    check: Vec<Entry>,
}

impl Service {
    fn write(self, text: &mut String, lab: &Topology, farm: &LabFarm) {
        write!(text, "\n# {}", self.comment).expect("a String takes everything");
        let vips = lab.vip().both().map(|address| toml::Value::from(address.to_string()));
        let mut keys = vec![
            ("name", self.name.into()),
            ("address", toml::Value::Array(vips.to_vec())),
            ("protocol", self.protocol),
            ("port", i64::from(self.port).into()),
            ("scheduler", "round-robin".into()),
        ];
        if farm.mode != ServiceMode::Nat {
            keys.push(("mode", farm.mode.word().into()));
        }
        section(text, lab, "service", &keys);
        let times = [("interval", "500ms".into()), ("timeout", "300ms".into()), ("fall", 2.into()), ("rise", 2.into())];
        section(text, lab, "service.check", &self.check.into_iter().chain(times).collect::<Vec<_>>());
        for number in 1..=lab.servers {
            server(text, &format!("s{number}"), lab.server(number));
            if farm.weight(number) != 1 {
                line(text, &format!("weight = {}", farm.weight(number)));
            }
        }
        server(text, "sorry", lab.sorry_server());
        line(text, "backup = true                          # the sorry server: speaks when every other is down");
    }
}

fn server(text: &mut String, name: &str, address: AddressPair) {
    line(text, "\n[[service.server]]");
    line(text, &format!("name = \"{name}\"\naddress = {:?}", address.both().map(|address| address.to_string())));
}
