//! Fake engines with their sockets, and the program that finds them.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use fwlb::api::listen::{Limits, serve_socket};
use fwlb::api::{Request, router};
use serde_json::Value;
use tokio::net::UnixListener;

use crate::fake::Fake;

/// A file with every kind of secret in it, as an engine that hid none of them would answer.
pub const SECRETS: &str = r#"
[engine]
name = "outer"
[api]
tls = { certificate = "/etc/fwlb/tls.crt", key = "-----BEGIN PRIVATE KEY-----first" }
[[api.token]]
name = "ansible"
role = "viewer"
secret = "second-secret-of-the-file"
[[group]]
name = "perimeter"
seed = "third secret of the file"
"#;

/// Engines with their sockets in a temporary directory, and the program that finds them there.
pub struct Ground {
    pub directory: tempfile::TempDir,
    engines: Vec<Arc<Fake>>,
    runtime: tokio::runtime::Runtime,
}

impl Ground {
    pub fn new(engines: &[(&'static str, u64)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut ground = Self { directory, engines: Vec::new(), runtime };
        for (name, sessions) in engines {
            let fake = Arc::new(Fake { name, sessions: *sessions, asked: Mutex::default() });
            let _context = ground.runtime.enter();
            let listener = UnixListener::bind(ground.socket(name)).unwrap();
            let router = router(Arc::clone(&fake));
            ground.runtime.spawn(serve_socket(listener, router, |_| None, Limits::of_socket()));
            ground.engines.push(fake);
        }
        ground
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.sock"))
    }

    pub fn fwlb(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fwlb"));
        command
            .args(line.split_ascii_whitespace().map(|word| word.replace('\u{a0}', " ")))
            .env("FWLB_RUN_DIRECTORY", self.directory.path())
            .env("USER", "kim");
        command.env_remove("SUDO_USER").output().unwrap()
    }

    /// The output of a command, which must succeed.
    #[track_caller]
    pub fn prints(&self, line: &str) -> String {
        let output = self.fwlb(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The error output of a command, which must fail with this status.
    #[track_caller]
    pub fn fails(&self, line: &str, status: i32) -> String {
        let output = self.fwlb(line);
        assert_eq!(output.status.code(), Some(status), "{line}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.prints(line)).unwrap()
    }

    pub fn asked(&self, engine: usize) -> Vec<Request> {
        std::mem::take(&mut *self.engines[engine].asked.lock().unwrap())
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
