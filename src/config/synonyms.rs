//! Lists words of other programs (HAProxy, keepalived, LVS, F5, iproute2) for what this file calls by another name.
//!
//! They are not accepted, because everybody who reads a file would have to know both words for one thing. The error
//! says what to write instead.

use crate::config::value::InvalidValue;

/// Keys and sections: the sections where they are recognised (none: everywhere), the words, and the hint.
const KEYS: &[(&[&str], &[&str], &str)] = &[
    (
        &["the file"],
        &["vrrp", "vrrp-instance", "vrrp-sync-group", "keepalived", "failover", "redundancy"],
        "VRRP is for a later version: until then a second machine runs an engine of its own, and routing chooses between them",
    ),
    (
        &["the file"],
        &[
            "frontend",
            "backend",
            "listen",
            "virtual-server",
            "virtual",
            "vserver",
            "vip",
            "serverfarm",
            "farm",
            "balancer",
        ],
        "write [[service]] with name, address, protocol and port, and below it [[service.server]] for each server",
    ),
    (
        &["the file"],
        &["server", "servers", "real-server", "rserver", "node"],
        "write [[service.server]] below its [[service]]",
    ),
    (&["the file"], &["firewall", "firewalls", "fw"], "write [[group.firewall]] below its [[group]]"),
    (&["the file"], &["peer", "peers"], "write [[group.peer]] below its [[group]]"),
    (
        &["the file"],
        &["interface", "interfaces", "iface", "nic", "device", "vlan"],
        "write [[link]] with name and device",
    ),
    (&["the file"], &["global", "global-defs", "general"], "write [engine]"),
    (&["the file"], &["static-routes", "gateway"], "write [[route]] with to and via"),
    (
        &["the file"],
        &["check", "checks", "monitor", "health", "health-check", "healthcheck", "probe"],
        "write [service.check] below its [[service]], or [group.check] below its [[group]]",
    ),
    (&["the file"], &["token", "tokens", "users"], "write [[api.token]] with name, role and secret"),
    (
        &["[[service]]"],
        &[
            "vip",
            "vips",
            "virtual",
            "virtual-address",
            "virtual-ipaddress",
            "bind",
            "listen",
            "ip",
            "addr",
            "destination",
        ],
        "write address = \"203.0.113.80\", and the port as port = 80",
    ),
    (
        &["[[service]]"],
        &[
            "balance",
            "algorithm",
            "lb-algo",
            "lb-algorithm",
            "lvs-sched",
            "lb-method",
            "load-balancing-mode",
            "predictor",
        ],
        "write scheduler = \"round-robin\", \"least-connections\" or \"hash\"",
    ),
    (
        &["[[service]]"],
        &["lb-kind", "lvs-method", "forwarding", "forward", "translation"],
        "write mode = \"nat\", \"full-nat\", \"direct\" or \"tunnel\"",
    ),
    (
        &["[[service]]"],
        &["persistence", "persistence-timeout", "persist", "stick", "stick-table", "stickiness", "affinity", "cookie"],
        "write sticky = { by = \"source\", timeout = \"10m\" }",
    ),
    (
        &["[[service]]"],
        &["real-server", "real-servers", "servers", "backend", "backends", "members", "pool", "nodes"],
        "write [[service.server]] below the service, once for each server",
    ),
    (&["[[service]]"], &["sorry-server", "backup", "fallback"], "write a [[service.server]] with backup = true"),
    (
        &["[[service]]"],
        &["snat-pool", "snatpool", "natpool", "source-nat", "source"],
        "write mode = \"full-nat\" and snat = \"10.10.20.240-10.10.20.243\"",
    ),
    (
        &["[[service]]"],
        &["monitor", "health", "health-check", "healthcheck", "probe", "httpchk", "option"],
        "write [service.check] below the service, for example with kind = \"http\" and path = \"/healthz\"",
    ),
    (&["[[service]]"], &["proto"], "write protocol = \"tcp\""),
    (&["[[link]]"], &["interface", "iface", "dev", "nic", "ifname"], "write device = \"eth0\""),
    (
        &["[[link]]"],
        &["address", "ip", "ips", "addr", "ipaddr", "inet", "inet6"],
        "write addresses = [\"198.51.100.1/24\"]",
    ),
    (&["[[link]]"], &["tag", "vid", "vlan-id", "dot1q"], "write vlan = 100"),
    (&["[[link]]"], &["hwaddr", "lladdr", "mac-address"], "write mac = \"02:00:5e:10:00:01\""),
    (&["[[link]]"], &["gateway", "gw"], "write a [[route]] with to = \"default\" and via"),
    (
        &["[[route]]"],
        &["destination", "dst", "prefix", "network", "net"],
        "write to = \"203.0.113.0/24\", or \"default\"",
    ),
    (&["[[route]]"], &["gateway", "gw", "nexthop", "next-hop"], "write via = \"198.51.100.254\""),
    (&["[[route]]"], &["dev", "device", "interface"], "write link = with the name of a [[link]]"),
    (
        &["[[group]]"],
        &["balance", "algorithm", "scheduler", "predictor", "method"],
        "write hash = \"5-tuple\", \"3-tuple\", \"addresses\", \"source\" or \"destination\"",
    ),
    (
        &["[[group]]"],
        &["secret", "key", "password", "auth-pass"],
        "write seed = \"file:/etc/fwlb/seed\", the same on all engines",
    ),
    (&["[[group]]"], &["quorum", "min-active-members", "minimum"], "write min-up = 1"),
    (
        &["[[group]]"],
        &["members", "firewalls", "nodes", "servers", "server"],
        "write [[group.firewall]] below the group, once for each firewall",
    ),
    (&["[[group]]"], &["monitor", "health", "health-check", "probe"], "write [group.check] below the group"),
    (
        &["[[group.firewall]]", "[[group.peer]]"],
        &["address", "ip", "addr", "gateway", "nexthop", "next-hop"],
        "write addresses = with one address per family",
    ),
    (&["[[group.firewall]]"], &["interface", "iface", "dev", "device"], "write link = with the name of a [[link]]"),
    (&["[[group.firewall]]"], &["backup", "standby"], "write spare = true"),
    (
        &["[[service.server]]"],
        &["ip", "addr", "host", "hostname", "addresses", "real-address"],
        "write address = \"10.10.20.11\", and the port as port = 8080",
    ),
    (&["[[service.server]]"], &["sorry", "sorry-server", "spare", "standby"], "write backup = true"),
    (
        &["[[service.server]]", "[[group.firewall]]", "[[service]]"],
        &["disabled", "enabled", "disable", "enable", "state", "session", "inservice"],
        "write admin = \"ready\", \"drain\" (takes nothing new) or \"maint\" (out of service)",
    ),
    (&["[[service.server]]", "[[group.firewall]]"], &["ratio", "priority", "share"], "write weight = 1"),
    (
        &["[[service.server]]"],
        &["check", "monitor", "health", "inter", "fall", "rise"],
        "all servers of a service are checked alike: write [service.check] below the service",
    ),
    (&["[service.check]", "[group.check]"], &["type", "protocol", "method", "monitor"], "write kind = \"tcp\""),
    (
        &["[service.check]", "[group.check]"],
        &["inter", "delay-loop", "period", "every", "frequency"],
        "write interval = \"2s\"",
    ),
    (&["[service.check]", "[group.check]"], &["connect-timeout", "wait"], "write timeout = \"1s\""),
    (
        &["[service.check]", "[group.check]"],
        &["retry", "retries", "nb-get-retry", "failures", "down-count"],
        "write fall = 3 for the failures until it is down, rise = 2 for the successes until it is up",
    ),
    (&["[service.check]"], &["uri", "url", "request", "send-string"], "write path = \"/healthz\""),
    (&["[service.check]"], &["status", "status-code", "code", "expect"], "write expect-status = 200"),
    (&["[service.check]"], &["string", "body", "receive", "recv", "digest"], "write expect-body = \"OK\""),
    (&["[engine]"], &["threads", "nbthread", "nbproc", "cpus", "cores"], "write workers = 1"),
    (&["[engine]"], &["hostname", "id", "router-id", "node"], "write name = \"outer\""),
    (
        &["[engine]", "the file", "[[service]]"],
        &["maxconn", "max-connections", "conn-limit"],
        "write sessions = 1_000_000 in [limits]",
    ),
    (&["[limits]"], &["maxconn", "connections", "conntrack"], "write sessions = 1_000_000"),
    (&["[limits]"], &["connlimit", "client-sessions", "per-source"], "write source-sessions = 1000"),
    (&["[limits]"], &["connrate", "client-rate", "session-rate"], "write source-rate = 200"),
    (&["[timeouts]"], &["client", "server", "tcp", "idle", "tunnel"], "write tcp-established = \"2h4m\""),
    (&["[timeouts]"], &["connect"], "write tcp-syn = \"4m\""),
    (&["[api]"], &["bind", "address", "port", "stats"], "write listen = \"127.0.0.1:9600\""),
    (
        &["[log]"],
        &["file", "access-log", "accounting"],
        "write sessions = \"/var/log/fwlb/outer.json\" for one line per session",
    ),
];

/// Values: the keys for which they are recognised, the words, and the line to write instead.
const VALUES: &[(&[&str], &[&str], &str)] = &[
    (
        &["scheduler"],
        &["rr", "wrr", "roundrobin", "weighted-round-robin", "static-rr", "weighted", "ratio", "random", "first"],
        "scheduler = \"round-robin\" (weights always count)",
    ),
    (
        &["scheduler"],
        &[
            "lc",
            "wlc",
            "leastconn",
            "least-conn",
            "leastconns",
            "leastconnection",
            "least-connection",
            "least-sessions",
            "sed",
            "nq",
        ],
        "scheduler = \"least-connections\" (weights always count)",
    ),
    (
        &["scheduler"],
        &[
            "sh",
            "mh",
            "source",
            "src",
            "source-hash",
            "ip-hash",
            "iphash",
            "maglev",
            "consistent",
            "consistent-hash",
            "client",
        ],
        "scheduler = \"hash\" (by the source address, unless hash-on says otherwise)",
    ),
    (
        &["scheduler"],
        &["dh", "destination", "dst", "destination-hash"],
        "scheduler = \"hash\" and hash-on = \"destination-address\"",
    ),
    (
        &["mode"],
        &["dsr", "dr", "droute", "gate", "direct-routing", "l2dsr", "l2-dsr", "npath", "transparent"],
        "mode = \"direct\"",
    ),
    (&["mode"], &["masq", "masquerade", "dnat", "half-nat", "route", "routed"], "mode = \"nat\""),
    (&["mode"], &["fullnat", "snat", "automap", "one-arm", "two-arm"], "mode = \"full-nat\""),
    (&["mode"], &["tun", "ipip", "ip-tunnel", "l3dsr", "l3-dsr", "gue", "gre"], "mode = \"tunnel\""),
    (
        &["mode"],
        &["tcp", "udp", "http", "l4", "l7"],
        "mode = \"nat\": services are balanced at layer 4; protocol = \"tcp\" says which, kind = \"http\" in [service.check] asks for a page",
    ),
    (&["hash"], &["source-ip", "src", "src-ip", "sip", "client"], "hash = \"source\""),
    (&["hash"], &["destination-ip", "dst", "dst-ip", "dip"], "hash = \"destination\""),
    (
        &["hash"],
        &["ip", "2-tuple", "source-destination", "src-dst", "src-dst-ip", "l3", "layer3"],
        "hash = \"addresses\"",
    ),
    (&["hash"], &["five-tuple", "5tuple", "l4", "layer4", "layer3+4", "symmetric"], "hash = \"5-tuple\""),
    (&["hash"], &["three-tuple", "3tuple"], "hash = \"3-tuple\""),
    (&["hash-on"], &["source", "src", "source-ip", "client"], "hash-on = \"source-address\""),
    (&["hash-on"], &["destination", "dst", "destination-ip", "vip"], "hash-on = \"destination-address\""),
    (&["hash-on"], &["port", "sport"], "hash-on = [\"source-address\", \"source-port\"]"),
    (&["on-failure"], &["kill", "close", "rst", "purge", "abort", "shutdown-sessions"], "on-failure = \"reset\""),
    (
        &["on-failure"],
        &["move", "rebalance", "reassign", "redispatch", "failover", "migrate"],
        "on-failure = \"reselect\"",
    ),
    (&["on-failure"], &["none", "ignore", "stay", "leave"], "on-failure = \"keep\""),
    (&["on-failure"], &["block", "discard", "blackhole"], "on-failure = \"drop\""),
    (&["below-min"], &["open", "fail-open", "pass", "forward"], "below-min = \"bypass\""),
    (&["below-min"], &["closed", "close", "fail-closed", "fail-close", "block", "deny"], "below-min = \"drop\""),
    (&["admin"], &["up", "enabled", "enable", "active", "inservice", "on", "normal"], "admin = \"ready\""),
    (&["admin"], &["draining", "drained", "standby", "inservice-standby", "soft-stop"], "admin = \"drain\""),
    (
        &["admin"],
        &["down", "disabled", "disable", "off", "offline", "forced-offline", "maintenance", "out-of-service"],
        "admin = \"maint\" (or \"drain\", which lets live sessions end)",
    ),
    (&["kind"], &["ping", "icmp-echo", "gateway-icmp", "echo"], "kind = \"icmp\""),
    (&["kind"], &["tcp-check", "connect", "tcp-connect", "l4"], "kind = \"tcp\""),
    (&["kind"], &["syn", "tcp-half-open", "halfopen", "half"], "kind = \"half-open\""),
    (&["kind"], &["http-get", "httpchk", "get", "web", "l7"], "kind = \"http\""),
    (&["kind"], &["off", "no", "false", "disabled"], "kind = \"none\""),
    (&["learn-by"], &["source-mac", "macs", "address"], "learn-by = \"mac\""),
    (&["learn-by"], &["interface", "device", "vlan", "port"], "learn-by = \"link\""),
    (&["protocol"], &["6", "t", "http", "https"], "protocol = \"tcp\""),
    (&["protocol"], &["17", "dns", "quic"], "protocol = \"udp\""),
    (&["protocol"], &["both", "tcp-udp", "tcp+udp", "tcp/udp", "all"], "protocol = [\"tcp\", \"udp\"]"),
    (&["io"], &["xdp", "afxdp", "xsk"], "io = \"af-xdp\""),
    (&["io"], &["packet", "afpacket", "raw", "tpacket"], "io = \"af-packet\""),
    (&["by"], &["ip", "src", "source-ip", "source-address", "client", "client-ip"], "by = \"source\""),
    (&["level"], &["warning"], "level = \"warn\""),
    (&["level"], &["notice", "informational"], "level = \"info\""),
    (&["level"], &["err", "crit", "critical", "alert", "emerg"], "level = \"error\""),
    (&["role"], &["admin", "administrator", "root", "write", "rw"], "role = \"operator\""),
    (&["role"], &["read", "readonly", "read-only", "ro", "guest", "user"], "role = \"viewer\""),
];

/// The hint for the unknown key or section `word` in `section`.
pub fn key(section: &str, word: &str) -> Option<&'static str> {
    find(KEYS, section, word)
}

/// The line to write instead of the value `word` of `key`.
pub fn value(key: &str, word: &str) -> Option<&'static str> {
    find(VALUES, key, word)
}

/// Adds the line to write instead to the refusal of the value `word` of `key`, if there is one.
pub fn hinted(refused: InvalidValue, key: &str, word: &str) -> InvalidValue {
    match value(key, word) {
        Some(line) => refused.hint(format!("write {line}")),
        None => refused,
    }
}

fn find(list: &'static [(&[&str], &[&str], &str)], of: &str, word: &str) -> Option<&'static str> {
    let word = word.trim().to_lowercase().replace(['_', ' '], "-");
    list.iter()
        .find(|(places, words, _)| places.contains(&of) && words.contains(&word.as_str()))
        .map(|(_, _, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_one_thing_where_it_may_stand() {
        for list in [KEYS, VALUES] {
            let mut seen = std::collections::BTreeSet::new();
            for (places, words, _) in list {
                for place in *places {
                    words.iter().for_each(|word| assert!(seen.insert((place, word)), "{word} of {place} stands twice"));
                }
            }
        }
    }

    #[test]
    fn words_are_found_however_they_are_written() {
        assert_eq!(value("scheduler", "Weighted Round_Robin"), value("scheduler", "wrr"));
        assert_eq!(key("[[service]]", "lb_algo"), key("[[service]]", "balance"));
        assert_eq!(key("[[link]]", "balance"), None);
    }
}
