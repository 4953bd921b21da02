//! Changes every key of the file by itself: everything that a reload would apply is among the differences.

use std::path::Path;

use toml::{Table, Value as Toml};

use super::*;
use crate::config::file;
use crate::config::schema::{Schema, Unset, ValueKind};

/// A file that sets every key of every section that has no default of its own, and some that have one.
const FULL: &str = r#"
[engine]
name = "inner"
workers = 2
io = "af-packet"
xdp-send = true
busy-poll = false
control = "/run/fwlb/inner.sock"
state = "/var/lib/fwlb/inner"
user = "fwlb"
group = "fwlb"
[api]
listen = "192.0.2.1:9600"
tls = { certificate = "/etc/a.crt", key = "file:/etc/a.key" }
socket-group = "adm"
[[api.token]]
name = "ansible"
role = "viewer"
secret = "a-secret-of-32-bytes-for-a-token"
[log]
level = "info"
format = "text"
checks = false
sessions = "/var/log/fwlb/sessions.json"
syslog = ["192.0.2.9:514"]
facility = "daemon"
hostname = "here"
[limits]
sessions = 1000
sticky = 1000
neighbors = 1000
pending = 1000
punts = 1000
fragments = 1000
held = 1000
source-sessions = 1000
source-rate = 1000
[timeouts]
tcp-syn = "20s"
tcp-established = "20s"
tcp-closing = "20s"
udp-new = "20s"
udp = "20s"
icmp = "20s"
other = "20s"
fragment = "20s"
[ha]
vrid = 61
key = "a key of 32 bytes for two nodes.."
advertise = "1s"
preempt = "never"
margin = 10
damping = "3s"
start-delay = "3s"
linger = "3s"
version = 3
mac = "virtual"
lease = "auto"
sessions = "needed"
sync-delay = "3ms"
ports = "split"
[[ha.node]]
name = "inner-b"
priority = 190
addresses = ["10.2.0.3", "10.10.20.3"]
sync = "10.255.0.2"
kind = "fwlb"
[[ha.node]]
name = "inner"
addresses = ["10.2.0.1", "10.10.20.1"]
[[link]]
name = "firewalls"
device = "eth1"
vlan = 7
addresses = ["10.2.0.1/24"]
mac = "02:00:5e:10:00:01"
mtu = 1500
floating = ["10.2.0.5"]
vrid = 62
track = true
unicast = false
[[link]]
name = "servers"
device = "eth2"
addresses = ["10.10.20.1/24", "10.2.9.1/24"]
floating = ["10.10.20.5"]
[[route]]
to = "0.0.0.0/0"
via = "10.10.20.254"
link = "servers"
group = "perimeter"
peer = "outer"
firewall = "fw1"
[[group]]
name = "perimeter"
seed = "a seed of 32 bytes for a group...."
hash = "5-tuple"
on-failure = "reset"
min-up = 1
below-min = "bypass"
drain-timeout = "20s"
[[group.peer]]
name = "outer"
addresses = ["10.1.0.1"]
[[group.peer.engines]]
name = "outer-a"
addresses = ["10.1.0.2"]
[group.check]
kind = "tcp"
port = 7
interval = "1s"
timeout = "2s"
fall = 3
rise = 3
hold = "5s"
[[group.firewall]]
name = "fw1"
link = "firewalls"
addresses = ["10.2.0.11"]
learn-by = "mac"
weight = 1
admin = "ready"
[[group.firewall]]
name = "fw2"
link = "firewalls"
addresses = ["10.2.0.12"]
[[group.affinity]]
prefixes = ["10.10.20.9/32"]
hash = "addresses"
[[service]]
name = "web"
address = ["203.0.113.80"]
protocol = ["tcp"]
port = [80]
scheduler = "hash"
hash-on = ["source-address"]
mode = "full-nat"
snat = ["10.10.20.240"]
sticky = { by = "source", prefix = 24, prefix6 = 64, timeout = "20s" }
on-failure = "keep"
drain-timeout = "20s"
admin = "ready"
[service.check]
kind = "http"
port = 8080
path = "/healthz"
host = "www.example.com"
expect-status = [200]
expect-body = "OK"
interval = "3s"
timeout = "1s"
fall = 3
rise = 3
dead-interval = "4s"
down-after = "30s"
[[service.server]]
name = "s1"
address = ["10.10.20.11"]
port = 8080
weight = 1
admin = "ready"
[[service.server]]
name = "s2"
address = ["10.10.20.12"]
"#;

/// Other values for keys that take a text. Those of numbers, flags, durations and choices come from the declarations.
const OTHERS: &[(&str, &str, &str)] = &[
    ("[engine]", "name", r#""other""#),
    ("[engine]", "control", r#""/run/fwlb/other.sock""#),
    ("[engine]", "state", r#""/var/lib/fwlb/other""#),
    ("[engine]", "user", r#""nobody""#),
    ("[engine]", "group", r#""nogroup""#),
    ("[api]", "listen", r#""192.0.2.1:9601""#),
    ("[api]", "socket-group", r#""netadmin""#),
    ("`tls` of [api]", "certificate", r#""/etc/b.crt""#),
    ("`tls` of [api]", "key", r#""file:/etc/b.key""#),
    ("[[api.token]]", "name", r#""terraform""#),
    ("[[api.token]]", "secret", r#""another-secret-of-a-token-32-b..""#),
    ("[log]", "sessions", "false"),
    ("[log]", "syslog", r#""/dev/log""#),
    ("[log]", "hostname", r#""there""#),
    ("[[link]]", "name", r#""dmz""#),
    ("[[link]]", "device", r#""eth9""#),
    ("[ha]", "key", r#""another key of 32 bytes for nodes""#),
    ("[ha]", "sync-delay", r#""5ms""#),
    ("[[ha.node]]", "name", r#""third""#),
    ("[[ha.node]]", "addresses", r#"["10.2.0.4", "10.10.20.4"]"#),
    ("[[ha.node]]", "sync", r#""10.255.0.3""#),
    ("[[link]]", "floating", r#""10.2.0.6""#),
    ("[[link]]", "addresses", "[\"10.2.0.1/24\", \"10.99.0.1/24\"]"),
    ("[[link]]", "mac", r#""02:00:5e:10:00:02""#),
    ("[[route]]", "to", r#""198.51.100.0/24""#),
    ("[[route]]", "via", r#""10.10.20.253""#),
    ("[[group]]", "name", r#""dmz""#),
    ("[[group]]", "seed", r#""another seed of 32 bytes, as long.""#),
    ("[[group.peer]]", "name", r#""dmz""#),
    ("[[group.peer]]", "addresses", r#""10.1.0.9""#),
    ("[[group.peer.engines]]", "name", r#""outer-b""#),
    ("[[group.peer.engines]]", "addresses", r#""10.1.0.3""#),
    ("[[group.firewall]]", "name", r#""fw3""#),
    ("[[group.firewall]]", "addresses", r#""10.2.0.13""#),
    ("[[group.affinity]]", "prefixes", r#""10.10.20.8/32""#),
    ("[[service]]", "name", r#""www""#),
    ("[[service]]", "address", r#""203.0.113.81""#),
    ("[[service]]", "protocol", r#""udp""#),
    ("[[service]]", "port", "81"),
    ("[[service]]", "hash-on", r#"["source-port"]"#),
    ("[[service]]", "snat", r#""10.10.20.241""#),
    ("[service.check]", "path", r#""/""#),
    ("[service.check]", "host", r#""example.net""#),
    ("[service.check]", "expect-status", r#""200-399""#),
    ("[service.check]", "expect-body", r#""yes""#),
    ("[[service.server]]", "name", r#""s3""#),
    ("[[service.server]]", "address", r#""10.10.20.13""#),
    // Keys whose other values need a change elsewhere: with that change, or left out.
    ("[[route]]", "link", "\"firewalls\"\nvia = \"10.2.0.254\""),
    ("[[route]]", "group", ""),
    ("[[route]]", "peer", ""),
    ("[[route]]", "firewall", ""),
    ("[[group.firewall]]", "learn-by", "\"link\"\nlink = \"servers\"\naddresses = \"10.10.20.77\""),
    ("[[group.firewall]]", "link", "\"servers\"\naddresses = \"10.10.20.77\""),
    ("`sticky` of [[service]]", "by", ""),
];

fn understood(text: &str) -> Result<Config, String> {
    let mut content = |path: &Path| {
        let label =
            if path.extension().is_some_and(|extension| extension == "key") { "PRIVATE KEY" } else { "CERTIFICATE" };
        Ok(format!("-----BEGIN {label}-----\n{}", path.display()))
    };
    let outcome = crate::config::load("new.toml", text, &mut content);
    outcome.config.ok_or_else(|| outcome.diagnostics.to_string())
}

/// The table of the section's first item.
fn table<'a>(root: &'a mut Table, schema: &Schema) -> Option<&'a mut Table> {
    let path = match schema.section {
        "the file" => return Some(root),
        "`tls` of [api]" => "api.tls",
        "`sticky` of [[service]]" => "service.sticky",
        header => header.trim_matches(['[', ']']),
    };
    path.split('.').try_fold(root, |here, step| match here.get_mut(step)? {
        Toml::Table(table) => Some(table),
        Toml::Array(list) => list.first_mut()?.as_table_mut(),
        _ => None,
    })
}

/// [`FULL`] with the defaults of all keys that it leaves out.
fn full() -> Table {
    let mut full: Table = FULL.parse().unwrap();
    let sections = sections(&understood(FULL).unwrap());
    for schema in file::all() {
        let Some(section) = sections.iter().find(|section| section.schema.section == schema.section) else { continue };
        let table = table(&mut full, schema).unwrap_or_else(|| panic!("no {} in FULL", schema.section));
        for (key, value) in section.keys().filter(|(key, _)| key.unset == Unset::Default) {
            let literal = value.literal().unwrap_or_else(|| panic!("no default of {}", key.name));
            let typed: Table = format!("{} = {literal}", key.name).parse().unwrap();
            for (name, value) in typed {
                table.entry(name).or_insert(value);
            }
        }
    }
    full
}

/// Other values of a key, each as a section with that change, and the section without the key.
fn other_values(schema: &Schema, key: &crate::config::schema::Key, now: &Toml) -> Vec<Table> {
    let listed = OTHERS.iter().filter(|(section, name, _)| *section == schema.section && *name == key.name);
    let one = |value: Toml| Table::from_iter([(key.name.to_owned(), value)]);
    let read = |text: &str| format!("{} = {text}", key.name).parse::<Table>().unwrap();
    let mut others: Vec<Table> =
        listed.map(|(_, _, text)| if text.is_empty() { Table::new() } else { read(text) }).collect();
    others.extend(match &key.kind {
        ValueKind::Flag => vec![one(Toml::Boolean(now.as_bool() == Some(false)))],
        ValueKind::Number(range) => [*range.start(), *range.end(), range.start() + 1]
            .map(|number| one(Toml::Integer(i64::try_from(number).unwrap())))
            .to_vec(),
        ValueKind::Duration(_) | ValueKind::DurationOrNever(_) => {
            ["2s", "7s", "50s"].map(|time| one(Toml::String(time.to_owned()))).to_vec()
        }
        ValueKind::Choice(words) => words().into_iter().map(|word| one(Toml::String(word.to_owned()))).collect(),
        ValueKind::Choices(_)
        | ValueKind::Ranges(..)
        | ValueKind::String(_)
        | ValueKind::Strings(_)
        | ValueKind::Secret(_)
        | ValueKind::File(_)
        | ValueKind::Table
        | ValueKind::Tables => vec![],
    });
    others.retain(|other| other.get(key.name) != Some(now));
    others
}

/// Each of `others` with the rest as it is and, because some keys are valid only without others, without one, two or
/// all other keys.
fn with_companions(others: &[Table], section: &Table) -> Vec<(Table, Vec<String>)> {
    let names: Vec<&String> = section.keys().collect();
    let mut without = vec![vec![]];
    without.extend(names.iter().map(|name| vec![(*name).clone()]));
    without.push(vec!["peer".to_owned(), "firewall".to_owned()]);
    without.push(names.iter().map(|name| (*name).clone()).collect());
    without.into_iter().flat_map(|gone| others.iter().map(move |other| (other.clone(), gone.clone()))).collect()
}

#[test]
fn every_key_that_is_changed_alone_is_told() {
    let full = full();
    let old = understood(FULL).unwrap();
    let mut untaken = Vec::new();
    for schema in file::all() {
        for key in schema.keys.iter().filter(|key| !matches!(key.kind, ValueKind::Table | ValueKind::Tables)) {
            let mut changed = full.clone();
            let section = table(&mut changed, schema).unwrap_or_else(|| panic!("no {} in FULL", schema.section));
            let now = section
                .get(key.name)
                .unwrap_or_else(|| panic!("no {} of {} in FULL", key.name, schema.section))
                .clone();
            let siblings = section.clone();
            let (mut taken, mut why) = (false, String::new());
            for (other, without) in with_companions(&other_values(schema, key, &now), &siblings) {
                let mut changed = full.clone();
                let section = table(&mut changed, schema).unwrap();
                section.remove(key.name);
                section.retain(|key, _| without.iter().all(|gone| gone != key));
                section.extend(other.clone());
                let text = match (key.name, other.get("name")) {
                    // References to the name must change as well.
                    ("name", Some(other)) => FULL.replace(&now.to_string(), &other.to_string()),
                    _ => toml::to_string(&changed).unwrap(),
                };
                match understood(&text) {
                    Ok(new) => {
                        let told = differences(&old, &new);
                        let names_it = |told: &Difference| match &told.key {
                            Some(told) => told == key.name || told.ends_with(&format!(".{}", key.name)),
                            // A thing with another name, or a route to another prefix, is another thing.
                            None => key.name == "name" || key.name == "to",
                        };
                        assert!(told.iter().any(names_it), "{} of {}: {told:?}", key.name, schema.section);
                        taken = true;
                        break;
                    }
                    Err(error) => why = error,
                }
            }
            // A key with only one word has no other value.
            let only_one = matches!(key.kind, ValueKind::Choice(words) if words().len() == 1);
            if !taken && !only_one {
                untaken.push(format!("{} of {}: {why}", key.name, schema.section));
            }
        }
    }
    assert!(untaken.is_empty(), "no other value in OTHERS is taken: {untaken:#?}");
}

#[test]
fn sections_that_come_and_go_are_told_with_what_they_hold_but_no_secret() {
    let full: Table = FULL.parse().unwrap();
    let without = |section: &str, key: &str| {
        let mut less = full.clone();
        less[section].as_table_mut().unwrap().remove(key);
        less[section].as_table_mut().unwrap().insert("listen".to_owned(), Toml::String("127.0.0.1:9600".to_owned()));
        understood(&toml::to_string(&less).unwrap()).unwrap()
    };
    let old = understood(FULL).unwrap();
    let words =
        |old: &Config, new: &Config| differences(old, new).iter().map(Difference::to_string).collect::<Vec<_>>();

    assert_eq!(
        words(&without("api", "token"), &old),
        ["api: listen 127.0.0.1:9600 -> 192.0.2.1:9600", "token ansible: added"]
    );
    assert_eq!(
        words(&old, &without("api", "tls")),
        ["api: listen 192.0.2.1:9600 -> 127.0.0.1:9600", "api: tls certificate (hidden), key (hidden) -> none"]
    );
    let mut sticky = full.clone();
    sticky["service"][0].as_table_mut().unwrap().remove("sticky");
    let without_sticky = understood(&toml::to_string(&sticky).unwrap()).unwrap();
    assert_eq!(
        words(&without_sticky, &old),
        ["service web: sticky none -> by source, prefix 24, prefix6 64, timeout 20s"]
    );
}

#[test]
fn a_secret_of_other_content_is_told_as_changed_and_never_shown() {
    let old = understood(FULL).unwrap();
    let new =
        understood(&FULL.replace("a-secret-of-32", "A-SECRET-OF-32").replace("a seed of 32", "A SEED OF 32")).unwrap();
    let told = differences(&old, &new);
    assert_eq!(
        told.iter().map(Difference::to_string).collect::<Vec<_>>(),
        ["token ansible: secret changed", "group perimeter: seed changed"]
    );
    let json = serde_json::to_string(&told).unwrap().to_lowercase();
    assert!(!json.contains("32 bytes") && !json.contains("32-bytes"), "{json}");
}

#[test]
fn what_is_in_force_is_a_file_that_means_the_same() {
    let old = understood(FULL).unwrap();
    let shown = crate::config::running_config(&old, FULL);
    for secret in ["of 32 bytes", "of-32-bytes", "BEGIN"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let again = understood(&shown).unwrap_or_else(|why| panic!("{why}\n{shown}"));
    let told: Vec<String> = differences(&old, &again).iter().map(Difference::to_string).collect();
    assert_eq!(told, ["token ansible: secret changed", "ha: key changed", "group perimeter: seed changed"], "{shown}");
}

#[test]
fn what_the_file_leaves_out_is_marked() {
    let text = "[engine]\nname = \"outer\"\n[limits]\nheld = 1024\n[[link]]\nname = \"a\"\ndevice = \"eth0\"\n";
    let config = understood(text).unwrap();
    let shown = crate::config::running_config(&config, text);
    for line in ["name = \"outer\"", "held = 1024", "# workers: one per CPU                    # default"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(
        shown.lines().any(|line| line.starts_with("sessions = 1000000 ") && line.ends_with("# default")),
        "{shown}"
    );
    let settings = crate::config::settings(&config, text);
    let held = settings.iter().find(|setting| setting.key == "held").unwrap();
    assert_eq!((held.value.as_deref(), held.default), (Some("1024"), false));
}
