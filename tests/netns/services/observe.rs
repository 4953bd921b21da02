//! Passive checks on real packets: connections of clients take a server out long before its next active check, and one
//! broken client takes out none.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::Duration;

use tokio::time::Instant;

use super::farm::{Engine, Farm, NETS, Plan, farm, service};
use super::host::Program;

/// Time between two connections of the clients.
const PACE: Duration = Duration::from_millis(50);
/// How long clients may still be sent to a server that refuses them.
const NOTICED: Duration = Duration::from_millis(1_500);
/// The port that is served and checked. The service also has the next port, on which no server listens.
const PORT: u16 = 8000;

/// The service `web` with two servers that are checked at this interval, and observed.
fn web(interval: &str) -> String {
    let check = format!("kind = \"tcp\"\nport = {PORT}\ninterval = \"{interval}\"\nrise = 1");
    let more = format!("observe = \"layer4\"\n[service.check]\n{check}");
    let port = format!("port = \"{PORT}-{}\"\n", PORT + 1);
    service("web", 80, PORT, &more, 2).replacen(&format!("port = {PORT}\n"), &port, 1)
}

/// A farm with both servers up, which listen before they are first checked.
fn observed(interval: &str, test: impl FnOnce(&mut Farm, &mut [Option<Program>; 2])) {
    farm(Plan::new(2, ""), |farm| {
        let mut programs = ["s1", "s2"].map(|name| Some(listener(farm, name)));
        farm.restart(web(interval));
        farm.wait_all_up();
        test(farm, &mut programs);
    });
}

fn listener(farm: &Farm, name: &str) -> Program {
    Program::echo(&farm.namespace(name), name, PORT)
}

/// A connection of a client.
#[derive(Debug)]
struct Attempt {
    began: Instant,
    /// The server that greeted, or why none did.
    outcome: Result<String, ErrorKind>,
}

impl Attempt {
    fn make(farm: &Farm, from: IpAddr, to: (IpAddr, u16)) -> Self {
        let began = Instant::now();
        let outcome = farm.connect(from, to).map(|connection| connection.server).map_err(|error| error.kind());
        Self { began, outcome }
    }
}

/// Opens connections of five clients in each family, 20 a second in all, while `test` runs. Two in a row are of one
/// family, so that round robin gives clients of both families to either server.
fn steadily<R>(farm: &Farm, test: impl FnOnce(&Mutex<Vec<Attempt>>) -> R) -> (R, Vec<Attempt>) {
    let attempts = Mutex::new(Vec::new());
    let is_over = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            let mut number = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                let net = NETS[number as usize / 2 % 2];
                let attempt = Attempt::make(farm, net.client(100 + (number % 5) as u8), (net.vip(80), PORT));
                attempts.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
                number += 1;
                sleep((start + PACE * number).saturating_duration_since(Instant::now()));
            }
        });
        let _ends = Ends(&is_over);
        test(&attempts)
    });
    (result, attempts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Ends the connections of the clients even if a test panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn count(attempts: &[Attempt], matches: impl Fn(&Attempt) -> bool) -> usize {
    attempts.iter().filter(|attempt| matches(attempt)).count()
}

fn of<'a>(server: &'a str) -> impl Fn(&Attempt) -> bool + 'a {
    move |attempt| attempt.outcome.as_deref() == Ok(server)
}

/// Kills the listener of `s1` under load: no client is sent to it after [`NOTICED`], and all others are served all the
/// time.
#[track_caller]
fn kill_s1(farm: &Farm, programs: &mut [Option<Program>; 2]) {
    let (killed, attempts) = steadily(farm, |_| {
        sleep(Duration::from_secs(1));
        let killed = Instant::now();
        programs[0] = None;
        sleep(NOTICED + Duration::from_secs(2));
        killed
    });
    let place = attempts.iter().position(|attempt| attempt.began >= killed).expect("they went on");
    let (before, after) = attempts.split_at(place);
    // The last attempt may have been under way.
    let settled = &before[..before.len() - 1];
    assert!(settled.iter().all(|attempt| attempt.outcome.is_ok()), "{settled:#?}");
    assert!(count(settled, of("s1")) >= 5 && count(settled, of("s2")) >= 5, "{settled:#?}");

    let failed: Vec<_> = after.iter().filter(|attempt| attempt.outcome.is_err()).collect();
    let last = failed.last().map(|attempt| attempt.began - killed).unwrap_or_default();
    eprintln!("{} of {} refused, the last {last:?} after the server died", failed.len(), after.len());
    assert!(!failed.is_empty(), "clients came to the dead server");
    assert!(failed.iter().all(|attempt| attempt.outcome == Err(ErrorKind::ConnectionRefused)), "{failed:#?}");
    assert!(last < NOTICED, "{failed:#?}");
    assert_eq!(count(after, of("s2")), after.len() - failed.len(), "s2 serves all others");
    assert!(count(after, of("s2")) >= 30, "{after:#?}");
}

/// The output of `show services`.
fn shown(engine: &Engine) -> String {
    String::from_utf8(engine.fwlb("show services").stdout).expect("text")
}

const REASON: &str = "connections of clients in a row were refused; it takes no new sessions until a check passes";

#[test]
fn a_server_that_refuses_clients_is_out_within_a_second_and_the_last_one_never() {
    observed("30s", |farm, programs| {
        let engine = farm.engine();
        kill_s1(farm, programs);

        let view = engine.server("web/s1");
        let reason = view.reason.unwrap_or_default();
        assert_eq!((view.state.name(), reason.matches(REASON).count()), ("down", 2), "in both families: {reason}");
        assert!(shown(&engine).contains(REASON), "{}", shown(&engine));
        assert_eq!((engine.state("web/s2"), engine.counter("observe_taken_out")), ("up".to_owned(), 2));

        // Clients report the same about the last server, which is the only one. So few of them report it once in each
        // family.
        programs[1] = None;
        let before = engine.server("web/s2").new_sessions;
        for number in 0..8 {
            let net = NETS[usize::from(number) / 2 % 2];
            let attempt = Attempt::make(farm, net.client(100 + number), (net.vip(80), PORT));
            assert_eq!(attempt.outcome, Err(ErrorKind::ConnectionRefused));
        }
        sleep(Duration::from_millis(300));
        assert_eq!(engine.server("web/s2").new_sessions - before, 8, "the server refused them, not the engine");
        assert_eq!((engine.state("web/s2"), engine.counter("observe_taken_out")), ("up".to_owned(), 2));
        assert_eq!(engine.counter("drop_no_server_up"), 0);
    });
}

#[test]
fn servers_that_restart_one_after_the_other_leave_a_service_that_serves() {
    observed("30s", |farm, programs| {
        let engine = farm.engine();
        kill_s1(farm, programs);
        programs[0] = Some(listener(farm, "s1"));

        let ((), attempts) = steadily(farm, |_| {
            programs[1] = None;
            engine.wait("web/s2", "down");
            engine.wait("web/s1", "up");
            programs[1] = Some(listener(farm, "s2"));
            sleep(Duration::from_secs(2));
        });
        let last = &attempts[attempts.len() - 30..];
        assert!(last.iter().all(|attempt| attempt.outcome.is_ok()), "long before its next check: {attempts:#?}");
    });
}

#[test]
fn a_server_that_listens_again_is_back_with_its_next_check() {
    observed("3s", |farm, programs| {
        let engine = farm.engine();
        kill_s1(farm, programs);

        let ((), attempts) = steadily(farm, |attempts| {
            programs[0] = Some(listener(farm, "s1"));
            engine.wait("web/s1", "up");
            let served = attempts.lock().unwrap_or_else(PoisonError::into_inner).len();
            engine.wait_until(Duration::from_secs(2), "s1 serves clients again", |_| {
                let attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
                count(&attempts[served..], of("s1")) >= 4
            });
        });
        assert!(attempts.iter().all(|attempt| attempt.outcome.is_ok()), "{attempts:#?}");
        assert_eq!(engine.server("web/s1").reason, None);
        assert!(!shown(&engine).contains(REASON), "{}", shown(&engine));
    });
}

#[test]
fn one_client_of_a_port_that_nobody_serves_takes_no_server_out() {
    observed("30s", |farm, _| {
        let engine = farm.engine();
        // No other client connects, so that no answer speaks for the servers.
        for number in 0..40 {
            let net = NETS[number / 2 % 2];
            let attempt = Attempt::make(farm, net.client(100), (net.vip(80), PORT + 1));
            assert_eq!(attempt.outcome, Err(ErrorKind::ConnectionRefused));
            for server in ["web/s1", "web/s2"] {
                assert_eq!(engine.state(server), "up", "attempt {number}");
            }
            sleep(PACE);
        }
        assert!(engine.counter("observe_complaints") >= 2, "the servers were asked");
        assert_eq!((engine.counter("observe_taken_out"), engine.counter("drop_no_server_up")), (0, 0));
        for server in ["web/s1", "web/s2"] {
            assert_eq!(engine.server(server).falls, 0);
        }
        for net in NETS {
            let names = farm.answers(net.client(101), (net.vip(80), PORT), 4);
            assert_eq!(names.iter().filter(|name| *name == "s1").count(), 2, "{names:?}");
        }
    });
}
