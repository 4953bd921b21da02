//! Tests of `[log]`.

use super::*;

fn log(lines: &str) -> Log {
    let outcome = load_text(&format!("{GOOD}\n[log]\n{lines}\n"));
    outcome.config.unwrap_or_else(|| panic!("{}", outcome.diagnostics)).log
}

#[test]
fn without_a_word_the_log_is_text_to_standard_error_and_nothing_else() {
    let log = log("");
    let expected = Log {
        level: "info".into(),
        json: false,
        checks: false,
        sessions: None,
        syslog: Vec::new(),
        facility: 3,
        hostname: None,
    };
    assert_eq!(log, expected);
}

#[test]
fn collectors_are_addresses_with_a_port_or_sockets() {
    let log = log(r#"syslog = ["192.0.2.1:514", "[2001:db8::1]:10514", "/dev/log"]
facility = "local0"
hostname = "lb1.example.com"
sessions = "/var/log/fwlb/outer.json"
checks = true"#);
    let udp = |text: &str| SyslogTarget::Udp(text.parse().unwrap());
    let local = SyslogTarget::Local("/dev/log".into());
    assert_eq!(log.syslog, [udp("192.0.2.1:514"), udp("[2001:db8::1]:10514"), local]);
    assert_eq!((log.facility, log.hostname.as_deref()), (16, Some("lb1.example.com")));
    assert_eq!(log.sessions, Some(PathBuf::from("/var/log/fwlb/outer.json")));
    assert!(log.checks);
}

#[test]
fn what_is_no_place_for_lines_is_refused_with_a_way_out() {
    for (line, words) in [
        ("sessions = true", ["path of a file", "sessions.json"]),
        ("sessions = \"sessions.json\"", ["not an absolute path", "sessions.json"]),
        ("sessions = 3", ["must be a string", "3"]),
        ("syslog = \"192.0.2.1\"", ["not a syslog collector", "ADDRESS:514"]),
        ("syslog = \"collector:514\"", ["not a syslog collector", "ADDRESS:514"]),
        ("syslog = \"192.0.2.1:0\"", ["not a syslog collector", "ADDRESS:514"]),
        ("facility = \"local8\"", ["`facility` must be", "did you mean \"local"]),
        ("hostname = \"a b\"", ["`hostname` must be", "without spaces"]),
    ] {
        refused(&format!("{GOOD}\n[log]\n{line}\n"), &words);
    }
}

#[test]
fn two_engines_do_not_write_into_one_session_log() {
    let text = |name: &str| {
        format!(
            "[engine]\nname = \"{name}\"\n[log]\nsessions = \"/var/log/s\"\n[[link]]\nname = \"a\"\ndevice = \"eth0\"\n"
        )
    };
    let read = |name: &str| load(&format!("{name}.toml"), &text(name), &mut |_| Err("none".into()));
    let mut outcomes = [read("outer"), read("inner")];

    compare(&mut outcomes);

    let said = outcomes[1].diagnostics.to_string();
    assert!(outcomes[1].config.is_none() && said.contains("outer.toml also uses /var/log/s"), "{said}");
}
