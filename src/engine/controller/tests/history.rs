//! What is recorded of checks and probes: the last results, failure counts and time down.

use super::farm::{Behaviour, Farm, check, http, web};
use super::paths::started;
use super::sandwich::OUTER;
use crate::config::ServiceCheckKind;
use crate::engine::view::CheckResultView;
use crate::time::Duration;

fn results(farm: &Farm, subject: Option<&str>, limit: usize) -> Vec<CheckResultView> {
    let results = farm.controller.check_results(subject, limit).expect("there is such a server");
    assert!(results.is_sorted_by_key(|(at, _)| *at));
    results.into_iter().map(|(_, result)| result).collect()
}

#[test]
fn the_last_twenty_checks_of_a_server_are_kept_with_what_they_said_and_how_long_they_took() {
    let mut farm = Farm::new(web(2, check(http(None))));
    farm.wait_ms(30_500);
    farm.behave(0, Behaviour::Refuses);
    farm.wait_ms(1_000);
    farm.behave(0, Behaviour::Silent);
    farm.wait_ms(2_000);

    let of_s1 = results(&farm, Some("web/s1"), 1000);

    assert_eq!(of_s1.len(), 20);
    let [.., well, refused, silent, silent_too] = of_s1.as_slice() else { panic!("{of_s1:?}") };
    let told = |one: &CheckResultView| (one.result.to_string(), one.detail.clone().unwrap(), one.state.to_string());
    let expected = |result: &str, detail: &str, state: &str| (result.to_owned(), detail.to_owned(), state.to_owned());
    assert_eq!(told(well), expected("passed", "HTTP 200", "up"));
    assert_eq!(told(refused), expected("failed", "connection refused", "up"));
    assert_eq!(told(silent), expected("failed", "no SYN-ACK in 500ms", "down"));
    assert_eq!(told(silent_too), expected("failed", "no SYN-ACK in 500ms", "down"));
    assert_eq!(silent.duration_us, Some(500_000));
    assert!(well.duration_us.is_some_and(|took| took < 1_000), "{well:?}");
    assert!(of_s1.iter().all(|one| one.subject == "web/s1" && one.family.name() == "ipv4" && one.times == 1));

    assert_eq!(results(&farm, None, 1000).len(), 40);
    assert_eq!(results(&farm, Some("web"), 7).len(), 7);
    assert_eq!(results(&farm, Some("s2"), 1)[0].detail.as_deref(), Some("HTTP 200"));
    let unknown = farm.controller.check_results(Some("s"), 1).unwrap_err().to_string();
    assert_eq!(unknown, "no server or firewall is called \"s\"; there are web/s1, web/s2");
}

#[test]
fn falls_failures_and_time_down_are_counted_of_server_check_and_service() {
    let mut farm = Farm::new(web(1, check(ServiceCheckKind::Tcp)));
    farm.wait_ms(2_500);
    let view = farm.view();
    assert_eq!((view.falls, view.downtime_ms, view.servers[0].falls), (0, 0, 0), "starting is no fall");
    assert_eq!(view.servers[0].checks[0].last.as_ref().map(|last| last.describe()).as_deref(), Some("connected"));

    farm.behave(0, Behaviour::Refuses);
    farm.wait_ms(4_000);
    let view = farm.view();
    let (server, check) = (&view.servers[0], &view.servers[0].checks[0]);
    assert_eq!((view.state.name(), view.falls, server.falls, check.falls, check.failures), ("down", 1, 1, 1, 4));
    assert_eq!((view.since_ms, view.downtime_ms), (server.since_ms, server.downtime_ms));
    assert!((2_000..3_000).contains(&view.downtime_ms), "{view:?}");
    assert_eq!(check.last.as_ref().map(|last| last.describe()).as_deref(), Some("failed: connection refused"));

    farm.behave(0, Behaviour::Answers(Vec::new()));
    farm.wait_ms(5_000);
    let again = farm.view();
    assert_eq!((again.state.name(), again.falls), ("up", 1));
    assert!((3_000..4_001).contains(&again.downtime_ms), "{again:?}");
    farm.wait_ms(5_000);
    assert_eq!(farm.view().downtime_ms, again.downtime_ms, "up it does not grow");
}

#[test]
fn a_service_that_lives_on_its_backup_says_so_and_does_not_count_it_among_its_servers() {
    let mut config = web(2, check(ServiceCheckKind::Tcp));
    config.servers[1].backup = true;
    let mut farm = Farm::new(config);
    farm.wait_ms(100);
    let view = farm.view();
    assert_eq!((view.servers_up().as_str(), view.reason), ("1 of 1 up, 1 of 1 backups up", None));

    farm.behave(0, Behaviour::Refuses);
    farm.wait_ms(3_000);

    let view = farm.view();
    assert_eq!((view.state.name(), view.servers_up().as_str()), ("up", "0 of 1 up, 1 of 1 backups up"));
    assert_eq!(view.reason.as_deref(), Some("only backup servers are up"));
}

#[test]
fn probes_that_end_alike_are_one_result_and_a_failure_stands_between_them() {
    let mut sandwich = started(1);
    sandwich.run(Duration::from_secs(60));
    sandwich.kill(0);
    sandwich.run(Duration::from_secs(2));

    let results = sandwich.engines[OUTER].check_results(Some("perimeter/fw1"), 1000).unwrap();
    let ipv4: Vec<_> =
        results.iter().map(|(_, result)| result).filter(|result| result.family.name() == "ipv4").collect();

    let told: Vec<_> = ipv4.iter().map(|one| (one.result.name(), one.state.name(), one.detail.as_deref())).collect();
    let no_answer = Some("no answer");
    assert_eq!(
        told[told.len() - 3..],
        [("passed", "up", None), ("failed", "up", no_answer), ("failed", "down", no_answer)]
    );
    let [.., passed, failed, down] = ipv4.as_slice() else { panic!("{ipv4:?}") };
    assert!(passed.times > 1_000 && passed.duration_us == Some(600), "{passed:?}");
    assert_eq!((failed.times, failed.duration_us), (4, None), "{failed:?}");
    assert!(down.times > 30, "{down:?}");
    assert_eq!((down.kind.name(), down.peer.as_deref()), ("firewall", Some("inner")));
    assert!(ipv4.len() <= 20);
}
