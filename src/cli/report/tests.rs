//! Tests of reports, on session logs and on other files.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A line of a log in numbers: client, firewall, server, reason, hour, milliseconds, packets, bytes.
type Numbers = (u8, u8, Option<u8>, u8, u8, u64, u64, u64);

fn line((client, firewall, server, reason, hour, duration_ms, packets, bytes): Numbers) -> String {
    let reason = ["closed", "reset", "idle", "evicted"][usize::from(reason % 4)];
    json!({
        "at": format!("2026-01-31T{hour:02}:30:00.000Z"), "reason": reason, "start": "2026-01-31T00:00:00.000Z",
        "duration_ms": duration_ms, "engine": "outer", "protocol": "tcp",
        "source": format!("198.51.100.{client}:4000"), "destination": "203.0.113.80:80", "identifier": null,
        "pins": [{"group": "perimeter", "firewall": format!("fw{firewall}"), "pinned_by": "hash", "state": "confirmed", "toward": "source"}],
        "service": server.map(|_| "web"), "server": server.map(|server| format!("s{server}")),
        "translated_source": null, "translated_destination": null, "state": "closing",
        "packets": packets, "bytes": bytes,
    })
    .to_string()
}

fn args(words: &str) -> Args {
    #[derive(clap::Parser)]
    struct Words {
        #[command(flatten)]
        args: Args,
    }
    let words = std::iter::once("report").chain(words.split_whitespace()).chain(["-"]);
    <Words as clap::Parser>::try_parse_from(words).unwrap().args
}

fn sums(words: &str, log: &str) -> Report {
    let args = args(words);
    let mut sums = Sums::new(args.by);
    read(log.as_bytes(), &args, &mut sums).unwrap();
    sums.report(args.top)
}

const ONE: Numbers = (7, 1, Some(1), 0, 8, 1500, 10, 4000);

#[test]
fn a_report_has_a_row_for_each_name_and_says_what_it_read() {
    let two = (8, 2, Some(2), 1, 9, 500, 4, 100);
    let log = format!("{}\n{}\nno line\n{}\n", line(ONE), line(two), line(ONE));

    let report = sums("--by server", &log);

    assert_eq!(
        show(&report, By::Server),
        "SERVER  SESSIONS  SHARE  PACKETS  BYTES   MEAN  MEDIAN    P95\n\
         web/s1         2  66.7%       20   8000   1.5s    1.5s   1.5s\n\
         web/s2         1  33.3%        4    100  500ms   500ms  500ms\n\
         4 lines in, 3 used, 1 errors\n"
    );
}

#[test]
fn only_the_time_that_is_asked_for_is_summed() {
    let log: String = (0..24).map(|hour| line((7, 1, None, 0, hour, 1, 1, 1)) + "\n").collect();

    let report = sums("--by hour --since 2026-01-31T08:30:00Z --until 2026-01-31T10:00:00Z", &log);

    let hours: Vec<_> = report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(hours, ["2026-01-31T08", "2026-01-31T09"]);
    assert_eq!((report.lines, report.used, report.passed_over), (24, 2, 22));
    assert_eq!(sums("--since 2026-02-01", &log).used, 0);
}

#[test]
fn what_is_none_of_the_logs_is_counted_and_does_not_end_it() {
    let long = "x".repeat(3 * LINE_MAX as usize);
    let torn = &line(ONE)[..60];
    let log = format!("{long}\n\n{torn}\n{{}}\n[1]\n\u{0}\n{}\n{}", line(ONE), line(ONE));

    let report = sums("", &log);

    assert_eq!((report.lines, report.used, report.errors), (8, 2, 6));
    let bytes = [b"\xff\xfe\n".as_slice(), line(ONE).as_bytes()].concat();
    let mut sums = Sums::new(By::Server);
    read(bytes.as_slice(), &args(""), &mut sums).unwrap();
    assert_eq!(sums.report(0).used, 1);
}

#[test]
fn a_compressed_log_is_refused_with_the_way_to_read_it() {
    let error = read([0x1f, 0x8b, 8].as_slice(), &args(""), &mut Sums::new(By::Server)).unwrap_err();
    assert!(error.to_string().contains("zcat"), "{error}");
}

#[test]
fn more_names_than_there_is_room_for_are_summed_together_and_that_is_said() {
    let mut sums = Sums::with(By::Client, 3);
    for client in 0..10 {
        let text = line((client, 1, None, 0, 8, 100, 2, 50));
        sums.add(&Line::parse(text.as_bytes()).unwrap());
    }

    let report = sums.report(2);

    assert_eq!(report.limited_to, Some(3));
    assert_eq!(report.rows.len(), 2);
    let rest = report.rest.as_ref().unwrap();
    assert_eq!((rest.name.as_str(), rest.sessions, rest.packets, rest.bytes), (OTHERS_NAME, 8, 16, 400));
    assert!(show(&report, By::Client).contains("more than 3 different names"));
}

const OTHERS_NAME: &str = sums::OTHERS_NAME;

proptest! {
    #[test]
    fn sums_are_those_of_a_plain_map(
        lines in proptest::collection::vec(
            (0_u8..20, 1_u8..4, proptest::option::of(1_u8..5), any::<u8>(), 0_u8..24, 0_u64..100_000, 1_u64..1000, 40_u64..100_000),
            1..200,
        ),
        by in 0_usize..6,
        top in 0_usize..8,
    ) {
        let word = ["server", "firewall", "client", "service", "reason", "hour"][by];
        let log: String = lines.iter().map(|numbers| line(*numbers) + "\n").collect();
        let report = sums(&format!("--by {word} -n {top}"), &log);

        let mut plain: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
        for (client, firewall, server, reason, hour, _, packets, bytes) in &lines {
            let name = match word {
                "server" => server.map_or("-".to_owned(), |server| format!("web/s{server}")),
                "firewall" => format!("perimeter/fw{firewall}"),
                "client" => format!("198.51.100.{client}"),
                "service" => server.map_or("-", |_| "web").to_owned(),
                "reason" => ["closed", "reset", "idle", "evicted"][usize::from(reason % 4)].to_owned(),
                _ => format!("2026-01-31T{hour:02}"),
            };
            let sum = plain.entry(name).or_default();
            *sum = (sum.0 + 1, sum.1 + packets, sum.2 + bytes);
        }
        for row in &report.rows {
            prop_assert_eq!((row.sessions, row.packets, row.bytes), plain[&row.name]);
        }
        let all = report.rows.iter().chain(&report.rest).fold((0, 0, 0), |sum, row| {
            (sum.0 + row.sessions, sum.1 + row.packets, sum.2 + row.bytes)
        });
        let expected = plain.values().fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2));
        prop_assert_eq!(all, expected);
        prop_assert_eq!((report.used, report.errors), (lines.len() as u64, 0));
    }

    #[test]
    fn no_bytes_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut sums = Sums::new(By::Client);
        let bytes = [b" ".as_slice(), &bytes].concat();
        read(bytes.as_slice(), &args(""), &mut sums).unwrap();
        let report = sums.report(0);
        prop_assert_eq!(report.lines, report.errors);
    }
}
