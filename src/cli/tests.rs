//! What can be typed, and what cannot.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("fwlb").chain(line.split_whitespace()))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_commands_of_the_contract_are_understood() {
    for line in [
        "run a.toml",
        "run outer.toml inner.toml --take",
        "check a.toml b.toml",
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
