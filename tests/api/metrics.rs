//! `/metrics`, and what is made from it: the dashboard, the alerts, and the table of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use axum::http::{HeaderMap, HeaderValue};
use fwlb::api::metrics::{Process, page};
use fwlb::engine::DropReason;
use fwlb::engine::view::MeasuresView;

use crate::open_metrics::{Family, parse};

const PROCESS: Process = Process {
    cpu_seconds: 1.5,
    resident_bytes: 4096,
    virtual_bytes: 8192,
    open_fds: 12,
    max_fds: 1024,
    threads: 5,
    start_seconds: 1.7e9,
};

/// Metrics of an engine that has one of everything.
pub fn measured() -> MeasuresView {
    serde_json::from_str(include_str!("measured.json")).unwrap()
}

fn scrape(engines: Vec<MeasuresView>) -> Vec<Family> {
    let (kind, text) = page(&HeaderMap::new(), engines, Some(PROCESS)).unwrap();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
}

/// The value of the only sample `name` with these labels.
fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = families.iter().flat_map(|family| &family.samples).filter(|sample| {
        sample.name == name && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
    });
    let values: Vec<_> = samples.map(|sample| sample.value).collect();
    assert_eq!(values.len(), 1, "{name} {labels:?}: {values:?}");
    values[0]
}

#[test]
fn every_measure_has_its_family_under_the_prefix_with_help_and_type() {
    let families = scrape(vec![measured()]);

    for family in &families {
        assert!(family.name.starts_with("fwlb_"), "{}", family.name);
        assert!(family.help.ends_with('.') && family.help.len() > 10, "{}: {}", family.name, family.help);
        for unit in ["seconds", "bytes", "ratio"] {
            let named = family.name.ends_with(&format!("_{unit}"));
            assert_eq!(named, family.unit.as_deref() == Some(unit), "{} and its unit", family.name);
        }
        for sample in &family.samples {
            assert!(sample.labels.len() <= 6, "{sample:?}");
            assert!(
                sample.labels.contains_key("engine")
                    || family.name.contains("_process_")
                    || family.name == "fwlb_build",
                "{sample:?}"
            );
        }
    }
    for (name, labels, expected) in [
        ("fwlb_build_info", vec![("version", env!("CARGO_PKG_VERSION"))], 1.0),
        ("fwlb_config_info", vec![("engine", "outer"), ("digest", "00deadbeef001234")], 1.0),
        ("fwlb_config_epoch", vec![], 17.0),
        ("fwlb_uptime_seconds", vec![], 61.5),
        ("fwlb_sessions", vec![], 40.0),
        ("fwlb_sessions_capacity", vec![], 1000.0),
        ("fwlb_sessions_created_total", vec![], 90.0),
        ("fwlb_received_total", vec![], 1000.0),
        ("fwlb_asymmetric_total", vec![], 2.0),
        ("fwlb_a_counter_of_tomorrow_total", vec![], 1.0),
        ("fwlb_drops_total", vec![("reason", "no_route")], 30.0),
        ("fwlb_punt_drops_total", vec![("reason", "arp")], 3.0),
        ("fwlb_pin_changes_total", vec![("change", "rotated")], 1.0),
        ("fwlb_alarms", vec![("kind", "digest_differs")], 1.0),
        ("fwlb_alarms", vec![("kind", "peer_lost")], 0.0),
        ("fwlb_overrides", vec![], 1.0),
        ("fwlb_link_up", vec![("link", "firewalls")], 0.0),
        ("fwlb_link_receive_bytes_total", vec![("link", "clients")], 60000.0),
        ("fwlb_link_ring_drops_total", vec![("link", "clients")], 9.0),
        ("fwlb_firewall_up", vec![("firewall", "fw2")], 1.0),
        ("fwlb_firewall_state", vec![("firewall", "fw2"), ("state", "degraded")], 1.0),
        ("fwlb_firewall_state", vec![("firewall", "fw2"), ("state", "up")], 0.0),
        ("fwlb_firewall_share_ratio", vec![("firewall", "fw1")], 0.75),
        ("fwlb_firewall_fair_share_ratio", vec![("firewall", "fw1")], 0.25),
        ("fwlb_group_imbalance_ratio", vec![("group", "perimeter")], 3.0),
        ("fwlb_path_up", vec![("firewall", "fw2"), ("peer", "inner"), ("family", "ipv4")], 0.0),
        ("fwlb_peer_state", vec![("state", "up")], 1.0),
        ("fwlb_peer_digest", vec![("digest", "differs")], 1.0),
        ("fwlb_probe_rtt_seconds_bucket", vec![("firewall", "fw1"), ("le", "0.001")], 15.0),
        ("fwlb_probe_rtt_seconds_count", vec![], 16.0),
        ("fwlb_service_sessions", vec![("service", "web")], 12.0),
        ("fwlb_service_imbalance_ratio", vec![("service", "web")], 1.25),
        ("fwlb_server_bytes_total", vec![("service", "web"), ("server", "s1")], 30000.0),
        ("fwlb_service_state_age_seconds", vec![("service", "web")], 6.0),
        ("fwlb_service_falls_total", vec![("service", "web")], 1.0),
        ("fwlb_service_downtime_seconds_total", vec![("service", "web")], 1.5),
        ("fwlb_service_new_sessions_total", vec![("service", "web")], 33.0),
        ("fwlb_server_in_bytes_total", vec![("server", "s1")], 10000.0),
        ("fwlb_server_out_bytes_total", vec![("server", "s1")], 20000.0),
        ("fwlb_server_in_packets_total", vec![("server", "s1")], 200.0),
        ("fwlb_server_state", vec![("server", "s1"), ("state", "up")], 1.0),
        ("fwlb_server_state", vec![("server", "s1"), ("state", "maint")], 0.0),
        ("fwlb_server_downtime_seconds_total", vec![("server", "s1")], 2.5),
        ("fwlb_server_check_up", vec![("server", "s1"), ("family", "ipv4")], 1.0),
        ("fwlb_server_check_failures_total", vec![("server", "s1"), ("family", "ipv4")], 7.0),
        ("fwlb_server_check_last_passed", vec![("server", "s1"), ("family", "ipv4")], 1.0),
        ("fwlb_server_check_duration_seconds", vec![("server", "s1"), ("family", "ipv4")], 0.00125),
        ("fwlb_worker_batch_frames_sum", vec![("worker", "0")], 600.0),
        ("fwlb_worker_ring_drops_total", vec![("worker", "0"), ("device", "eth0")], 9.0),
        ("fwlb_table_entries", vec![("table", "sessions")], 40.0),
        ("fwlb_table_capacity", vec![("table", "punts")], 4096.0),
        ("fwlb_control_lag_seconds_count", vec![], 100.0),
        ("fwlb_ha_role", vec![("cluster", "other,outer"), ("role", "active")], 1.0),
        ("fwlb_ha_role", vec![("role", "standby")], 0.0),
        ("fwlb_ha_faults", vec![], 1.0),
        ("fwlb_ha_maintenance", vec![], 1.0),
        ("fwlb_ha_lease_seconds", vec![], 0.061),
        ("fwlb_ha_node_up", vec![("node", "other"), ("kind", "fwlb")], 1.0),
        ("fwlb_ha_node_active", vec![("node", "other")], 0.0),
        ("fwlb_ha_heard_age_seconds", vec![("node", "other"), ("path", "sync")], 0.014),
        ("fwlb_sync_held", vec![("cluster", "other,outer"), ("node", "other")], 38.0),
        ("fwlb_sync_refused_total", vec![("node", "other"), ("reason", "full")], 3.0),
        ("fwlb_process_cpu_seconds_total", vec![], 1.5),
        ("fwlb_process_resident_memory_bytes", vec![], 4096.0),
    ] {
        assert_eq!(value(&families, name, &labels), expected, "{name} {labels:?}");
    }
    assert!(families.iter().all(|family| family.name != "fwlb_neighbors"), "what can shrink is no counter");
}

#[test]
fn several_engines_share_their_families_and_a_peer_cannot_write_into_the_page() {
    let mut inner = measured();
    inner.status.name = "in\"ner\\\n".to_owned();
    inner.firewalls.clear();

    let families = scrape(vec![measured(), inner]);

    assert_eq!(value(&families, "fwlb_sessions", &[("engine", "in\"ner\\\n")]), 40.0);
    assert_eq!(value(&families, "fwlb_group_imbalance_ratio", &[]), 3.0);
}

#[test]
fn a_group_without_sessions_has_shares_and_no_imbalance() {
    let mut idle = measured();
    idle.firewalls.iter_mut().for_each(|firewall| firewall.sessions = 0);

    let families = scrape(vec![idle]);

    assert_eq!(value(&families, "fwlb_firewall_share_ratio", &[("firewall", "fw1")]), 0.0);
    assert!(families.iter().all(|family| family.name != "fwlb_group_imbalance_ratio"));
}

#[test]
fn who_understands_only_the_older_format_gets_it() {
    let accept = |accept: &'static str| {
        let headers = HeaderMap::from_iter([(axum::http::header::ACCEPT, HeaderValue::from_static(accept))]);
        page(&headers, vec![measured()], Some(PROCESS)).unwrap()
    };
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for standard in [prometheus, "*/*", "application/json"] {
        assert!(accept(standard).0.starts_with("application/openmetrics-text"), "{standard}");
    }

    let (kind, plain) = accept("text/plain");

    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(
        plain.contains("# TYPE fwlb_received_total counter\nfwlb_received_total{engine=\"outer\"} 1000\n"),
        "{plain}"
    );
    assert!(plain.contains("# HELP fwlb_received_total ") && plain.contains("# TYPE fwlb_build_info gauge\n"));
    assert!(plain.contains("# TYPE fwlb_probe_rtt_seconds histogram\n"));
    assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"));
    let samples =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(samples(&plain), samples(&accept("*/*").1), "the same samples");
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The names of the metrics in a PromQL expression.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("fwlb_")).map(str::to_owned).collect()
}

/// The labels of a metric, and the values that each of them has.
type LabelValues = BTreeMap<String, BTreeSet<String>>;

/// The names of all samples of a scrape, with their labels.
fn sample_names() -> BTreeMap<String, LabelValues> {
    let mut names: BTreeMap<String, LabelValues> = BTreeMap::new();
    for sample in scrape(vec![measured()]).into_iter().flat_map(|family| family.samples) {
        let labels = names.entry(sample.name).or_default();
        for (label, value) in sample.labels {
            labels.entry(label).or_default().insert(value);
        }
    }
    names
}

/// Checks that a PromQL expression selects by labels and values that there are, as `metric{label=~"one|other"}` does:
/// one that selects nothing would be silent for ever.
fn check_selectors(place: &str, expression: &str, names: &BTreeMap<String, LabelValues>) {
    let pieces: Vec<_> = expression.split('{').collect();
    for pair in pieces.windows(2) {
        let metric = pair[0].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        let (selectors, _) = pair[1].split_once('}').unwrap_or_else(|| panic!("{place}: {expression}"));
        for selector in selectors.split(',') {
            let (label, values) = selector.split_once('=').unwrap_or_else(|| panic!("{place}: {expression}"));
            let known = names.get(metric).and_then(|labels| labels.get(label));
            let known = known.unwrap_or_else(|| panic!("{place}: {metric} has no label {label}"));
            for value in values.trim_matches(['~', '"']).split('|').filter(|value| !value.starts_with('$')) {
                assert!(known.contains(value), "{place}: {metric} has no {label} {value:?}, only {known:?}");
            }
        }
    }
}

#[test]
fn the_dashboard_is_json_and_draws_only_what_is_measured() {
    let dashboard: serde_json::Value = serde_json::from_str(&file("appliance/grafana/fwlb.json")).unwrap();
    let names = sample_names();
    let mut drawn = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} has a panel's id", panel["title"]);
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{}", panel["title"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let metrics = metrics_in(expression);
            assert!(!metrics.is_empty(), "{expression}");
            for metric in &metrics {
                assert!(names.contains_key(metric), "{}: no metric {metric}", panel["title"]);
            }
            check_selectors(&panel["title"].to_string(), expression, &names);
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
                assert!(
                    metrics.iter().any(|metric| names[metric].contains_key(label.0)),
                    "{}: no label {label:?}",
                    panel["title"]
                );
            }
            drawn.extend(metrics);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        for metric in metrics_in(variable["query"].to_string().as_str()) {
            assert!(names.contains_key(&metric), "no metric {metric}");
        }
    }
    assert!(drawn.len() > 25, "{drawn:?}");
}

#[test]
fn the_alerts_speak_of_what_is_measured_and_say_what_to_do() {
    let names = sample_names();
    let alerts = file("appliance/prometheus/alerts.yml");
    let mut alert = String::new();
    let mut seen = BTreeSet::new();
    for line in alerts.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alert = name.to_owned();
            assert!(seen.insert(alert.clone()), "{alert} stands twice");
        } else if let Some(expression) = line.strip_prefix("expr: ") {
            let metrics = metrics_in(expression);
            assert!(!metrics.is_empty(), "{alert}: {expression}");
            for metric in metrics {
                assert!(names.contains_key(&metric), "{alert}: no metric {metric}");
            }
            check_selectors(&alert, expression, &names);
        }
    }
    assert_eq!(alerts.matches("expr: ").count(), seen.len());
    for part in ["summary: ", "description: ", "severity: "] {
        assert_eq!(alerts.matches(part).count(), seen.len(), "every alert has {part}");
    }
    for needed in ["FirewallDown", "PeerLost", "DigestDiffers", "Asymmetric", "TableNearlyFull", "RingDrops"]
        .into_iter()
        .chain(["NoActive", "TwoActive", "NoStandby", "StandbyNotReady", "RoleFlapping"])
    {
        assert!(seen.iter().any(|name| name.contains(needed)), "{needed}: {seen:?}");
    }
    for kind in fwlb::ha::AlarmKind::NAMES {
        let named = alerts.split(['"', '|']).any(|word| word == kind);
        assert!(named, "no alert comes of the cluster's alarm {kind}");
    }
}

/// The names of all counters of a running engine.
fn every_counter() -> BTreeSet<String> {
    let text = file("configs/sandwich-services/inner.toml");
    let mut seed = |_: &Path| Ok("a seed that is long enough".to_owned());
    let outcome = fwlb::config::load("inner.toml", &text, &mut seed);
    let config = outcome.config.unwrap_or_else(|| panic!("{}", outcome.diagnostics));
    let controller = fwlb::engine::Controller::new(config, 1, fwlb::time::Instant::ZERO);
    let workers = fwlb::engine::Counters::default();
    let workers = workers.named().map(|(name, _)| name.to_owned());
    let sockets = fwlb::io::frame_io::SendError::ALL.iter().map(|error| error.name().to_owned());
    let others = [
        "event_log_dropped",
        "event_log_written",
        "ring_dropped",
        "log_dropped",
        "session_log_dropped",
        "session_log_failed",
        "session_log_written",
    ];
    let others = others.into_iter().chain(fwlb::runtime::CLUSTER_COUNTERS).map(str::to_owned);
    controller.counters().into_keys().chain(workers).chain(sockets).chain(others).collect()
}

#[test]
fn every_counter_that_there_is_says_what_it_counts() {
    let mut engine = measured();
    engine.counters = every_counter().into_iter().map(|name| (name, 1)).collect();
    for family in scrape(vec![engine]) {
        assert!(!family.help.contains("show counters"), "{}: write its help in src/api/metrics/help.rs", family.name);
    }
}

/// Compares the part of a page between two marks with the table that it must contain, or writes it.
fn hold(path: &str, (begin, end): (&str, &str), table: &str) {
    let page = file(path);
    let (head, rest) = page.split_once(begin).unwrap();
    let (old, tail) = if end.is_empty() { (rest, "") } else { rest.split_once(end).unwrap() };
    if std::env::var_os("FWLB_WRITE_DOCS").is_some() {
        let written = format!("{head}{begin}{table}{end}{tail}");
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), written).unwrap();
        return;
    }
    assert_eq!(old, table, "run the test with FWLB_WRITE_DOCS=1 and commit {path}");
}

/// The tables in the documentation are up to date. `FWLB_WRITE_DOCS=1` writes them.
#[test]
fn the_documentation_lists_every_metric_and_every_drop_reason() {
    let mut engine = measured();
    engine.counters = every_counter().into_iter().map(|name| (name, 1)).collect();
    let mut table = String::from("| metric | type | labels | what |\n| --- | --- | --- | --- |\n");
    for family in scrape(vec![engine]) {
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: BTreeSet<_> = family.samples.iter().flat_map(|sample| sample.labels.keys()).collect();
        let labels: Vec<_> = labels.into_iter().filter(|label| *label != "le").map(String::as_str).collect();
        let (name, kind, help) = (&family.name, &family.kind, &family.help);
        table += &format!("| `{name}{suffix}` | {kind} | {} | {help} |\n", labels.join(", "));
    }
    hold("appliance/metrics.md", ("<!-- table of metrics -->\n", ""), &table);

    let mut table = String::from("| counter | what |\n| --- | --- |\n");
    for reason in DropReason::ALL {
        assert!(reason.help().ends_with('.'), "{}: {}", reason.name(), reason.help());
        table += &format!("| `{}` | {} |\n", reason.name(), reason.help());
    }
    let marks = ("<!-- table of drop reasons -->\n", "\n<!-- end of the drop reasons -->");
    hold("appliance/metrics.md", marks, &table);
}

#[test]
fn the_documentation_explains_every_alarm_and_every_counter_of_the_small_families() {
    let page = file("docs/interface.md");
    let families = scrape(vec![measured()]);
    let alarms = families.iter().filter(|family| family.name == "fwlb_alarms").flat_map(|family| &family.samples);
    let alarms: BTreeSet<_> = alarms.map(|sample| sample.labels["kind"].clone()).collect();
    assert!(alarms.len() > 8, "{alarms:?}");
    let counters =
        every_counter().into_iter().filter(|name| name.starts_with("pin_") || name.starts_with("punt_drop_"));
    for name in alarms.into_iter().chain(counters) {
        assert!(page.contains(&format!("`{name}`")), "docs/interface.md has no {name}");
    }
}
