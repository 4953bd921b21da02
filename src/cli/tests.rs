//! Tests of the command line: what is accepted, and what is refused.

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words: Vec<OsString> = std::iter::once("fwlb").chain(line.split_whitespace()).map(OsString::from).collect();
    super::parse(&words)
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn commands_are_abbreviated_as_far_as_they_are_told_apart() {
    for (short, long) in [
        ("sh fw", "show firewalls"),
        ("sh fi", "show firewalls"),
        ("sh n", "show neighbors"),
        ("se f fw1 drain", "set firewall fw1 drain"),
        ("-e outer ex esp 192.0.2.1 192.0.2.2", "explain esp 192.0.2.1 192.0.2.2 -e outer"),
        ("lab st", "lab status"),
        // A whole word is not an abbreviation of another.
        ("show config", "show config"),
    ] {
        let told = |line: &str| format!("{:?}", parse(line).expect(line).command);
        assert_eq!(told(short), told(long));
    }
    let command = command();
    let candidates = |words: &[&str]| options::candidates(&command, words, words[words.len() - 1]);
    assert_eq!(candidates(&["sh", "s"]), ["status", "services", "sessions"]);
    assert_eq!(candidates(&["-e", "outer", "show", "conf"]), ["config", "configs"]);
    assert_eq!(candidates(&["re"]), ["reload", "report"]);
    assert_eq!(candidates(&["show", "nothing"]), [""; 0]);
    for line in ["sh s", "show conf", "re", "r"] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn options_are_taken_where_they_mean_something_and_refused_with_the_reason_elsewhere() {
    for (line, why) in [
        ("sim -e outer", "fwlb sim takes no --engine: it asks no engine"),
        ("-s /run/x.sock report a.json", "fwlb report takes no --socket: it reads files"),
        ("man --timeout 1s", "fwlb man takes no --timeout: it asks no engine"),
        ("completions bash --json", "fwlb completions takes no --json: it writes a script"),
        ("top --json", "fwlb top takes no --json: it is a picture"),
        ("lab status -e outer", "fwlb lab takes no --engine: its engines are those of the lab"),
        ("--json run a.toml", "fwlb run takes no --json: it answers nothing"),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(why), "{line}: {error}");
    }
    let mut command = command();
    command.build();
    let has = |name: &str, option: &str| {
        let of = name.split(' ').fold(&command, |of, word| of.find_subcommand(word).expect(word));
        of.get_arguments().any(|one| one.get_id() == option && !one.is_hide_set())
    };
    for name in ["show sessions", "set firewall", "health", "support", "capture"] {
        assert!(has(name, "engine") && has(name, "timeout"), "{name}");
    }
    for name in ["sim", "report", "man", "completions", "check", "run", "lab status"] {
        assert!(!has(name, "engine") && !has(name, "socket") && !has(name, "timeout"), "{name}");
    }
    assert!(has("lab status", "json") && has("check", "json") && has("sim", "json") && !has("top", "json"));
}

#[test]
fn the_commands_of_the_contract_are_understood() {
    for line in [
        "run a.toml",
        "run outer.toml inner.toml --take",
        "check a.toml b.toml",
        "upgrade",
        "upgrade outer --binary /opt/fwlb --wait 2m --reason 1.2.3",
        "-e outer upgrade",
        "show",
        "show status",
        "health",
        "health --json -e outer",
        "show links",
        "show neighbors",
        "show firewalls --json",
        "--json show firewalls",
        "show peers -e outer",
        "-e outer show peers",
        "-s /run/x.sock show sessions --source 203.0.113.0/24 --destination 2001:db8::1 --firewall p/fw1 --limit 5",
        "show counters -s /run/x.sock",
        "show counters --nonzero --rate",
        "show counters --rate=5s --json",
        "show firewalls --color",
        "--color=never show firewalls",
        "-c show firewalls",
        "support",
        "support -o x.tar.gz outer.toml",
        "support -o - --json",
        "show events --follow",
        "show config",
        "show config --all",
        "show configs",
        "reload --confirm 2m",
        "rollback",
        "rollback 3 --plan",
        "confirm -e outer",
        "explain tcp 198.51.100.7:40000 203.0.113.80:80",
        "explain --from perimeter/fw1 icmp 198.51.100.7 203.0.113.80 7 --json",
        "explain --peer tcp 198.51.100.7:40000 203.0.113.80:80",
        "explain -c outer.toml --down perimeter/fw1 --down web/s1 esp 1.2.3.4 1.2.3.5",
        "capture -w x.pcapng --link clients --link inner/servers --count 10 --seconds 5 --snaplen 96",
        "capture -w - --host 10.0.0.0/8 --port 53 --firewall fw1",
        "set firewall fw1 drain --wait 5m --reason upgrade",
        "set firewall perimeter/fw1 default",
        "set server web/s1 drain --wait 5m",
        "set server web/s1 weight=0 --reason x",
        "set server web/s1 weight=default",
        "set service web maint -e inner",
        "show services",
        "show service --json",
        "show sessions --service web --server web/s1",
        "probe perimeter/fw1",
        "probe web/s1",
        "ping 10.1.0.11 --link firewalls",
        "ping 2001:db8::1 --firewall perimeter/fw1 -c 1",
        "report /var/log/fwlb/outer.json",
        "report --by client -n 5 --since 2026-01-31 --until 2026-02-01T08:30:00Z --json a.json -",
        "lab up",
        "lab status --name x",
        "completions bash",
        "man",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for line in [
        "",
        "check",
        "run",
        "show nothing",
        "show sessions --source 300.1.1.1",
        "-e outer -s /run/x.sock show",
        "explain",
        "explain a b c d e",
        "explain --down perimeter/fw1 esp 1.2.3.4 1.2.3.5",
        "capture",
        "capture -w x --count 0",
        "capture -w x --flow tcp",
        "explain --from a/b/c tcp 1.2.3.4:1 1.2.3.5:2",
        "set firewall fw1",
        "set firewall fw1 off",
        "set server s1 drain",
        "set server web/s1 off",
        "set server web/s1 weight=257",
        "set server web/s1 weight=",
        "set service web weight=1",
        "set firewall fw1 drain --wait soon",
        "ping not-an-address",
        "ping 10.0.0.1 --link a --firewall b/c",
        "ping 10.0.0.1 -c 0",
        "report",
        "report --by moon a.json",
        "report --since soon a.json",
        "completions cobol",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn reserved_verbs_are_refused_with_words_of_their_own() {
    for verb in RESERVED {
        let error = parse(verb).expect_err(verb);
        assert_eq!(error.kind(), ErrorKind::InvalidSubcommand, "{verb} has become a verb");
    }
}
