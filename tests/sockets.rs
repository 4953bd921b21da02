//! Runs every command against sockets that belong to no engine or do not answer, and checks message, number of lines,
//! and exit status.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

/// Every command that talks to engines; `DIR` stands for the test's own directory.
const COMMANDS: &[&str] = &[
    "show",
    "show links",
    "show neighbors",
    "show firewalls",
    "show peers",
    "show services",
    "show sessions",
    "show sessions --by source",
    "kill --source 198.51.100.7 --yes",
    "show counters",
    "show events",
    "show events --follow",
    "show config",
    "explain tcp 198.51.100.7:40000 203.0.113.80:80",
    "set firewall perimeter/fw1 drain",
    "set server web/s1 maint",
    "set service web ready",
    "probe perimeter/fw1",
    "ping 203.0.113.80 --count 1",
    "capture --write DIR/never.pcapng --count 1",
];

/// A listening socket.
struct Socket {
    directory: tempfile::TempDir,
    timeout: &'static str,
}

impl Socket {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Self { directory, timeout: "10s" }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("outer.sock")
    }

    /// Listens, and lets `serve` handle every connection as long as the test runs.
    fn served(serve: impl Fn(UnixStream) + Send + 'static) -> Self {
        let socket = Self::new();
        let listener = UnixListener::bind(socket.path()).unwrap();
        thread::spawn(move || listener.incoming().flatten().for_each(&serve));
        socket
    }

    /// Answers every request with these bytes.
    fn answers(answer: String) -> Self {
        Self::served(move |mut stream| {
            // The request does not matter, but it must be read before the connection closes.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fwlb"));
        let line = line.replace("DIR", &self.directory.path().display().to_string());
        command
            .args(["--timeout", self.timeout])
            .args(line.split_whitespace())
            .env("FWLB_RUN_DIRECTORY", self.directory.path());
        command
    }
}

fn http(status: &str, server: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nServer: {server}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Asserts that the command failed, and printed nothing but `expected` and a hint, in two lines at most.
#[track_caller]
fn assert_said(line: &str, output: &Output, expected: &str, advice: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{line}");
    assert!(said.starts_with("fwlb: ") && said.ends_with('\n'), "{line}: {said}");
    assert!(said.contains(expected), "{line}: expected {expected:?}, said {said}");
    assert!(said.contains(advice), "{line}: expected {advice:?}, said {said}");
    assert!(said.trim_end().lines().count() <= 2, "{line}: {said}");
}

/// Runs every command, with the path of the socket and with the name of the engine.
#[track_caller]
fn assert_all_say(socket: &Socket, expected: &str, advice: &str) {
    for line in COMMANDS {
        let by_path = socket.command(&format!("-s DIR/outer.sock {line}")).output().unwrap();
        assert_said(line, &by_path, expected, advice);
        let by_name = socket.command(&format!("-e outer {line}")).output().unwrap();
        assert_said(line, &by_name, expected, advice);
    }
    assert!(!socket.directory.path().join("never.pcapng").exists(), "a capture that did not begin leaves no file");
}

#[test]
fn where_nothing_listens_it_is_said_how_to_start_an_engine() {
    let socket = Socket::new();
    for line in COMMANDS {
        let missing = socket.command(&format!("-s DIR/outer.sock {line}")).output().unwrap();
        assert_said(line, &missing, "there is no such socket", "start one with: fwlb run CONFIG");
        let nobody = socket.command(line).output().unwrap();
        assert_said(line, &nobody, "no engine runs here", "start one with: fwlb run CONFIG");
    }
    drop(UnixListener::bind(socket.path()).unwrap());
    for line in COMMANDS {
        let ended = socket.command(&format!("-s DIR/outer.sock {line}")).output().unwrap();
        assert_said(line, &ended, "left its socket behind", "start it again with: fwlb run CONFIG");
    }
}

#[test]
fn a_file_or_a_directory_is_no_socket() {
    let socket = Socket::new();
    std::fs::write(socket.path(), "precious").unwrap();
    for line in COMMANDS {
        let file = socket.command(&format!("-s DIR/outer.sock {line}")).output().unwrap();
        assert_said(line, &file, "outer.sock is no socket", "name an engine with -e NAME");
        let directory = socket.command(&format!("-s DIR {line}")).output().unwrap();
        assert_said(line, &directory, "is no socket", "name an engine with -e NAME");
    }
    assert_eq!(std::fs::read_to_string(socket.path()).unwrap(), "precious");
}

#[test]
fn who_may_not_open_the_socket_is_told_who_may() {
    let socket = Socket::served(drop);
    std::fs::set_permissions(socket.path(), PermissionsExt::from_mode(0o000)).unwrap();
    // Root may open everything, so that the command runs as another user, from a copy that this user can read.
    let is_root = std::fs::read_to_string("/proc/self/status").unwrap().contains("Uid:\t0\t");
    let program = socket.directory.path().join("fwlb");
    std::fs::copy(env!("CARGO_BIN_EXE_fwlb"), &program).unwrap();
    for line in COMMANDS {
        for how in ["-s DIR/outer.sock", "-e outer"] {
            let line = format!("{how} {line}").replace("DIR", &socket.directory.path().display().to_string());
            let mut command = Command::new(&program);
            command.args(line.split_whitespace()).env("FWLB_RUN_DIRECTORY", socket.directory.path());
            if is_root {
                command.uid(65_534).gid(65_534);
            }
            assert_said(&line, &command.output().unwrap(), "no permission for", "run this as root, or as a member");
        }
    }
}

#[test]
fn an_engine_that_is_silent_is_not_waited_for_for_ever() {
    let mut socket = Socket::served(|stream| {
        // The connection is kept open and never answered.
        std::mem::forget(stream);
    });
    socket.timeout = "100ms";
    assert_all_say(&socket, "did not answer within 100ms", "wait longer with --timeout");
}

#[test]
fn an_engine_that_takes_no_more_connections_is_busy() {
    let socket = Socket::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let listener = tokio::net::UnixSocket::new_stream().unwrap();
    listener.bind(socket.path()).unwrap();
    let _listener = listener.listen(0).unwrap();
    let _waiting = UnixStream::connect(socket.path()).unwrap();
    for line in COMMANDS {
        let output = socket.command(&format!("-s DIR/outer.sock {line}")).output().unwrap();
        assert_said(line, &output, "has no room for another caller", "see the engine's log");
    }
    let by_name = socket.command("-e outer show").output().unwrap();
    assert_said("-e outer show", &by_name, "has no room for another caller", "see the engine's log");
}

#[test]
fn a_socket_that_closes_at_once_has_no_engine_behind_it() {
    assert_all_say(&Socket::served(drop), "closed before the answer was complete", "see what runs with: fwlb show");
}

#[test]
fn another_program_is_not_taken_for_an_engine() {
    let advice = "name an engine with -e NAME";
    let page = "<html><h1>It works</h1></html>";
    for answer in [
        http("200 OK", "nginx/1.27", page),
        http("404 Not Found", "nginx/1.27", page),
        http("200 OK", "other", "{\"odd\":{}}"),
        http("403 Forbidden", "other", "{\"message\":\"no\"}"),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
    ] {
        assert_all_say(&Socket::answers(answer), "is not the control socket of an fwlb engine", advice);
    }
}

#[test]
fn an_engine_of_another_version_is_named_with_both_versions() {
    let own = env!("CARGO_PKG_VERSION");
    let advice = "restart the engine to run the installed version";
    let both = format!("is fwlb 0.0.1 and this is fwlb {own}");
    let lacks = r#"{"error":"not_found","message":"no such resource: /api/v1/new"}"#;
    let method = r#"{"error":"bad_request","message":"POST is not possible on /api/v1/old"}"#;
    let unknown = r#"{"error":"bad_request","message":"unknown field `new`, expected `old`"}"#;
    for (status, body) in [
        ("404 Not Found", lacks),
        ("405 Method Not Allowed", method),
        ("400 Bad Request", unknown),
        ("200 OK", "{\"odd\":{}}"),
    ] {
        assert_all_say(&Socket::answers(http(status, "fwlb/0.0.1", body)), &both, advice);
    }
    let first = Socket::answers(http("404 Not Found", "", lacks));
    assert_all_say(&first, "is fwlb of another version", advice);
}

#[test]
fn an_engine_that_stops_says_so_and_may_be_asked_again() {
    let stopping = r#"{"error":"unavailable","message":"engine outer is stopping"}"#;
    let socket =
        Socket::answers(http("503 Service Unavailable", concat!("fwlb/", env!("CARGO_PKG_VERSION")), stopping));
    assert_all_say(&socket, "engine outer is stopping", "try again");
}

#[test]
fn an_engine_beside_one_that_does_not_answer_is_not_hidden_by_it() {
    let mut socket = Socket::answers(http("200 OK", concat!("fwlb/", env!("CARGO_PKG_VERSION")), "[]"));
    socket.timeout = "1s";
    let silent = UnixListener::bind(socket.directory.path().join("inner.sock")).unwrap();
    let output = socket.command("show firewalls --json").output().unwrap();
    drop(silent);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "[]");
    assert!(String::from_utf8_lossy(&output.stderr).contains("inner.sock did not answer within 1s"));
    assert!(Path::new(&socket.path()).exists());
}
