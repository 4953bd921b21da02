//! Tests every cell of the table of roles in both address families, by files in which an address has the two roles.

use super::*;
use crate::config::diagnostic::Severity;

const ROLES: [AddressRole; 15] = [
    AddressRole::Own,
    AddressRole::Floating,
    AddressRole::Node,
    AddressRole::Network,
    AddressRole::Broadcast,
    AddressRole::Anycast,
    AddressRole::Vip,
    AddressRole::NextHop,
    AddressRole::Firewall,
    AddressRole::Peer,
    AddressRole::Server,
    AddressRole::Snat,
    AddressRole::RouteVia,
    AddressRole::RouteThrough,
    AddressRole::Listen,
];

/// `E` error, `W` warning, `o` reported elsewhere, `.` fine; blank: see the cell of the other order.
#[rustfmt::skip]
const CELLS: [(&str, AddressRole); 15] = [
//   second: Own Flo Nod Net Bro Any VIP Hop Fw Peer Srv Snat Via Thr Listen
    ("o E E W W W E E E E E . W W E", AddressRole::Own),
    ("  o E E E E E E E E E . W W E", AddressRole::Floating),
    ("    o E E E E E E E E E . . E", AddressRole::Node),
    ("      . . . E E E E E E W W E", AddressRole::Network),
    ("        . . E E E E E E W W E", AddressRole::Broadcast),
    ("          . E W W E E E W W E", AddressRole::Anycast),
    ("            o E E W E E W W E", AddressRole::Vip),
    ("              . W o . E . . W", AddressRole::NextHop),
    ("                o o . E . W W", AddressRole::Firewall),
    ("                  o W E W . W", AddressRole::Peer),
    ("                    . E . . .", AddressRole::Server),
    ("                      . W W E", AddressRole::Snat),
    ("                        . o .", AddressRole::RouteVia),
    ("                          . .", AddressRole::RouteThrough),
    ("                            .", AddressRole::Listen),
];

fn expected(first: AddressRole, second: AddressRole) -> char {
    let (cells, _) = CELLS.iter().find(|(_, role)| *role == first).unwrap();
    let column = ROLES.iter().position(|role| *role == second).unwrap();
    cells.chars().nth(2 * column).unwrap()
}

fn pairs() -> impl Iterator<Item = (AddressRole, AddressRole)> {
    ROLES.iter().enumerate().flat_map(|(at, first)| ROLES[at..].iter().map(|second| (*first, *second)))
}

#[test]
fn the_table_is_this_picture() {
    for (first, second) in pairs() {
        let cell = match check_roles(first, second) {
            RoleCheck::Fine => '.',
            RoleCheck::ReportedElsewhere => 'o',
            RoleCheck::Error(_) => 'E',
            RoleCheck::Warning(_) => 'W',
        };
        assert_eq!(cell, expected(first, second), "{first:?} and {second:?}");
    }
}

/// The parts of the test files that depend on the address family.
struct Words {
    /// The address under test, by its last number, and its neighbour in the same /30 or /126 with prefix length.
    address: fn(u8) -> String,
    length: u8,
    subnet: u8,
    other: &'static str,
    far: &'static str,
    server: &'static str,
}

const V4: Words = Words {
    address: |last| format!("10.1.0.{last}"),
    length: 24,
    subnet: 30,
    other: "198.51.100.254",
    far: "10.2.0.1",
    server: "10.10.20.11",
};
const V6: Words = Words {
    address: |last| format!("fd00:1::{last:x}"),
    length: 64,
    subnet: 126,
    other: "2001:db8:1::254",
    far: "fd00:2::1",
    server: "fd00:20::11",
};

/// A section in which `address` has this role. `n` makes its names unique.
fn section(role: AddressRole, address: &str, n: usize, words: &Words) -> String {
    let Words { length, subnet, other, far, server, .. } = words;
    let group = |firewall: &str, peer: &str| {
        format!(
            "[[group]]\nname = \"g{n}\"\nseed = \"a seed for the tests of this room\"\n[[group.peer]]\nname = \"p{n}\"\naddresses = \
             \"{peer}\"\n[[group.firewall]]\nname = \"f{n}\"\nlink = \"firewalls\"\naddresses = \"{firewall}\"\n"
        )
    };
    let service = |vip: &str, more: &str, server: &str| {
        format!(
            "[[service]]\nname = \"v{n}\"\naddress = \"{vip}\"\nprotocol = \"tcp\"\nport = 80\n{more}\n[[service.server]]\nname = \
             \"s{n}\"\naddress = \"{server}\"\n"
        )
    };
    let (fw, vip) = ((words.address)(11 + n as u8), format!("{far}{n}"));
    match role {
        AddressRole::Own => {
            format!("[[link]]\nname = \"l{n}\"\ndevice = \"eth{}\"\naddresses = \"{address}/{length}\"\n", n + 2)
        }
        AddressRole::Floating => {
            let own = (words.address)(60 + n as u8);
            format!(
                "[[link]]\nname = \"l{n}\"\ndevice = \"eth{}\"\naddresses = \"{own}/{length}\"\nfloating = \"{address}\"\n",
                n + 2
            )
        }
        AddressRole::Node => format!("[[ha.node]]\nname = \"n{n}\"\naddresses = \"{address}\"\n"),
        // 77 lies in the subnet from 76 to 79.
        AddressRole::Network | AddressRole::Broadcast | AddressRole::Anycast => {
            let inside = (words.address)(77);
            format!("[[link]]\nname = \"l{n}\"\ndevice = \"eth{}\"\naddresses = \"{inside}/{subnet}\"\n", n + 2)
        }
        AddressRole::Vip => service(address, "", server),
        AddressRole::NextHop => {
            let to = if *length == 24 { format!("192.0.{n}.0/24") } else { format!("2001:db8:{n}::/48") };
            format!("[[route]]\nto = \"{to}\"\nvia = \"{address}\"\n")
        }
        AddressRole::Firewall => group(address, far),
        AddressRole::Peer => group(&fw, address),
        AddressRole::Server => service(&vip, "", address),
        AddressRole::Snat => service(&vip, &format!("mode = \"full-nat\"\nsnat = \"{address}\""), server),
        AddressRole::RouteVia => format!("[[route]]\nto = \"{address}\"\nvia = \"{other}\"\n"),
        AddressRole::RouteThrough => format!("{}[[route]]\nto = \"{address}\"\ngroup = \"g{n}\"\n", group(&fw, far)),
        AddressRole::Listen if *length == 24 => format!("[api]\nlisten = \"{address}:9600\"\n"),
        AddressRole::Listen => format!("[api]\nlisten = \"[{address}]:9600\"\n"),
    }
}

fn file(sections: &[String]) -> crate::config::LoadedConfig {
    let has_nodes = sections.iter().any(|section| section.contains("[[ha.node]]") || section.contains("floating"));
    let ha = if has_nodes { "[ha]\nvrid = 1\n[[ha.node]]\nname = \"x\"\naddresses = \"198.51.100.1\"\n" } else { "" };
    let text = format!(
        "[engine]\nname = \"x\"\n{ha}[[link]]\nname = \"clients\"\ndevice = \"eth0\"\naddresses = [\"198.51.100.1/24\", \
         \"2001:db8:1::1/64\"]\n[[link]]\nname = \"firewalls\"\ndevice = \"eth1\"\naddresses = [\"10.1.0.1/24\", \
         \"fd00:1::1/64\"]\n{}",
        sections.concat()
    );
    crate::config::testing::load(&text)
}

#[test]
fn two_roles_of_one_address_are_told_as_the_table_says() {
    for (first, second) in pairs() {
        for (words, number) in [(&V4, 76), (&V6, 76)] {
            let is_v4 = words.length == 24;
            // The family has no such address, or a file has no second listener.
            let of_other_family = |role| match role {
                AddressRole::Network | AddressRole::Broadcast => !is_v4,
                AddressRole::Anycast => is_v4,
                _ => false,
            };
            if of_other_family(first) || of_other_family(second) || first == AddressRole::Listen {
                continue;
            }
            // The last address of its subnet, or the first.
            let number =
                if first == AddressRole::Broadcast || second == AddressRole::Broadcast { number + 3 } else { number };
            let address = (words.address)(number);
            let outcome = file(&[section(first, &address, 0, words), section(second, &address, 1, words)]);
            let diagnostics = &outcome.diagnostics;

            let of_this_table =
                |message: &str| message.starts_with(&format!("{address} is ")) && message.contains(", here ");
            let told = diagnostics.iter().filter(|one| of_this_table(&one.message));
            let cell = match told.map(|one| one.severity).min() {
                Some(Severity::Error) => 'E',
                Some(Severity::Warning) => 'W',
                None => '.',
            };

            match expected(first, second) {
                'o' => {
                    let somewhere = diagnostics.iter().any(|one| one.message.contains(&address));
                    assert!(cell == '.' && somewhere, "{first:?} and {second:?}:\n{diagnostics}");
                }
                // A link with such a subnet has all three of these addresses.
                _ if second <= AddressRole::Anycast && first >= AddressRole::Network => {}
                wanted => assert_eq!(cell, wanted, "{first:?} and {second:?}:\n{diagnostics}"),
            }
        }
    }
}

#[test]
fn what_no_station_can_have_is_refused_in_every_role_that_needs_one() {
    let v4 = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.18", "240.0.0.1", "255.255.255.255"];
    let v6 = ["::", "::1", "::10.0.0.1", "::ffff:10.0.0.1", "ff02::12"];
    let roles = ROLES.iter().filter(|role| {
        !matches!(role, AddressRole::Network | AddressRole::Broadcast | AddressRole::Anycast | AddressRole::Listen)
    });
    for role in roles {
        let addresses = v4.iter().map(|address| (address, &V4)).chain(v6.iter().map(|address| (address, &V6)));
        for (address, words) in addresses {
            let outcome = file(&[section(*role, address, 0, words)]);
            let told = outcome.diagnostics.to_string();
            assert!(outcome.config.is_none() && told.contains(*address), "{role:?} {address}: {told}");
        }
    }
}

#[test]
fn link_local_addresses_are_for_what_stands_beside_the_engine() {
    // Error, warning or nothing: for 169.254.9.9 in no connected subnet, and for fe80::9.
    let cells = [
        (AddressRole::Vip, 'W', 'E'),
        (AddressRole::Peer, 'W', 'E'),
        (AddressRole::Server, 'W', 'E'),
        (AddressRole::Snat, 'W', 'E'),
        (AddressRole::RouteVia, 'E', 'E'),
        (AddressRole::RouteThrough, 'E', 'E'),
        (AddressRole::Own, '.', '.'),
    ];
    for (role, v4, v6) in cells {
        for (address, words, wanted) in [("169.254.9.9", &V4, v4), ("fe80::9", &V6, v6)] {
            let outcome = file(&[section(role, address, 0, words)]);
            let told = outcome.diagnostics.iter().filter(|one| one.message.contains(address)).map(|one| one.severity);
            let cell = match told.min() {
                Some(Severity::Error) => 'E',
                Some(Severity::Warning) => 'W',
                None => '.',
            };
            assert_eq!(cell, wanted, "{role:?} {address}:\n{}", outcome.diagnostics);
        }
    }
}

#[test]
fn a_link_local_neighbour_may_have_the_engines_address_of_another_link() {
    let links = |own: &str, hop: &str| {
        let text = format!(
            "[engine]\nname = \"x\"\n[[link]]\nname = \"a\"\ndevice = \"eth0\"\naddresses = \"fe80::1/64\"\n[[link]]\nname = \
             \"b\"\ndevice = \"eth1\"\naddresses = [\"fe80::2/64\", \"2001:db8::1/64\"]\n[[route]]\nto = \"::/0\"\nvia = \
             \"{own}\"\nlink = \"{hop}\"\n"
        );
        crate::config::testing::load(&text).diagnostics.to_string()
    };
    assert_eq!(links("fe80::1", "b"), "");
    assert!(links("fe80::1", "a").contains("fe80::1 is the engine's own address on link \"a\""));
}

#[test]
fn a_range_of_source_addresses_is_judged_as_a_whole() {
    let farm = |snat: &str| {
        let service = section(AddressRole::Snat, snat, 0, &V4).replace("10.10.20.11", "10.1.0.11");
        file(&[service]).diagnostics.to_string()
    };
    assert!(farm("10.1.0.5-10.1.0.20").contains("10.1.0.11 is the address of server \"v0/s0\""));
    assert!(
        farm("10.1.0.240-10.1.0.255")
            .contains("10.1.0.255 is the broadcast address of the connected subnet 10.1.0.0/24")
    );
    assert!(!farm("10.1.0.20-10.1.0.25").contains(", here "));
}
