//! Health, the support archive, completions, manual pages, captures.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::fake::SECRETS;
use crate::ground::{Ground, text};

#[test]
fn health_is_an_exit_status_with_the_reasons() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    assert_eq!(ground.prints("health -e outer"), "outer: ok\n");

    let both = ground.fwlb("health");
    assert_eq!(both.status.code(), Some(1));
    assert_eq!(text(&both.stdout), "inner: link fw (eth1) is down: no carrier\nouter: ok\n");
    let rows: Value = serde_json::from_str(&text(&ground.fwlb("health --json").stdout)).unwrap();
    assert_eq!((&rows[0]["healthy"], &rows[0]["problems"][0]["kind"]), (&json!(false), &json!("link_down")));
    assert_eq!((&rows[1]["engine"], &rows[1]["healthy"]), (&json!("outer"), &json!(true)));

    assert!(Ground::new(&[]).fails("health", 1).contains("no engine runs here"));
}

#[test]
fn an_engine_that_was_killed_is_not_healthy_whatever_else_runs() {
    for others in [&[("outer", 3)][..], &[]] {
        let ground = Ground::new(others);
        drop(std::os::unix::net::UnixListener::bind(ground.socket("killed")).unwrap());
        let said = ground.fwlb("health");
        assert_eq!(said.status.code(), Some(1));
        let said = text(&said.stdout);
        assert!(said.contains("killed: no engine listens on") && said.contains("left its socket behind"), "{said}");
        assert_eq!(said.contains("outer: ok"), !others.is_empty(), "{said}");
        let rows: Value = serde_json::from_slice(&ground.fwlb("health --json").stdout).unwrap();
        assert_eq!((&rows[0]["engine"], &rows[0]["problems"][0]["kind"]), (&json!("killed"), &json!("no_answer")));
    }
    // A command that names an engine asks no other engine.
    let ground = Ground::new(&[("outer", 3)]);
    drop(std::os::unix::net::UnixListener::bind(ground.socket("killed")).unwrap());
    assert_eq!(ground.prints("health -e outer"), "outer: ok\n");
}

/// The files of an archive by name, without the directory that contains them.
fn unpacked(archive: &[u8]) -> Vec<(String, String)> {
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().components().skip(1).collect::<PathBuf>().display().to_string();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        (name, text)
    });
    entries.collect()
}

#[test]
fn the_archive_for_who_helps_has_everything_and_no_secret() {
    use std::os::unix::fs::PermissionsExt;
    let ground = Ground::new(&[("secretive", 3)]);
    drop(std::os::unix::net::UnixListener::bind(ground.socket("killed")).unwrap());
    let seed = ground.directory.path().join("seed");
    std::fs::write(&seed, "fourth secret, of a file\n").unwrap();
    let config = ground.directory.path().join("outer.toml");
    let text = SECRETS.replace("third secret of the file", &format!("file:{}", seed.display()));
    // A secret in a place where none is expected.
    std::fs::write(&config, format!("# once second-secret-of-the-file and fourth secret, of a file\n{text}")).unwrap();
    let path = ground.directory.path().join("support.tar.gz");
    std::fs::write(&path, "").unwrap();

    let said = ground.json(&format!("support --json --between 0s -o {} {}", path.display(), config.display()));

    assert_eq!(said["file"], path.display().to_string());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpacked(&std::fs::read(&path).unwrap());
    for (name, text) in &files {
        for secret in ["PRIVATE KEY", "second-secret", "third secret", "fourth secret"] {
            assert!(!text.contains(secret), "{secret} in {name}");
        }
    }
    let text = |name: &str| {
        let found = files.iter().find(|(there, _)| there == name).unwrap_or_else(|| panic!("no {name}: {said}"));
        found.1.as_str()
    };
    for name in ["config.toml", "config-all.toml", "check.txt", "events.json", "configs.json", "measures.json"] {
        text(&format!("secretive/{name}"));
    }
    for name in ["kernel.txt", "devices.txt", "processes.txt", "journal.txt", "routes.txt", "nftables.txt"] {
        text(&format!("machine/{name}"));
    }
    assert!(text("secretive/status.json").contains("\"uptime_ms\": 7440000"));
    assert!(text("secretive/counters-1.json").contains("\"received\": 7\n"));
    assert!(text("secretive/counters-2.json").contains("\"received\": 107\n"));
    assert!(text("files/outer.toml").contains("secret = \"(hidden)\""));
    assert!(text("engines-without-answer.txt").contains("killed: no engine listens on"));
    assert_eq!(said["inside"].as_array().unwrap().len(), files.len());
}

#[test]
fn an_archive_is_made_without_any_engine_and_into_a_pipe() {
    let ground = Ground::new(&[]);
    let piped = ground.fwlb("support -o -");
    assert_eq!(piped.status.code(), Some(0), "{}", text(&piped.stderr));
    let files = unpacked(&piped.stdout);
    let silent = files.iter().find(|(name, _)| name == "engines-without-answer.txt").unwrap();
    assert!(silent.1.contains("no engine runs here"), "{silent:?}");
    assert!(text(&piped.stderr).contains("machine: "), "what is inside is told: {}", text(&piped.stderr));
    let named = ground.prints(&format!("support -o {}", ground.directory.path().join("x.tgz").display()));
    assert!(named.contains("without secrets") && named.contains("machine: kernel"), "{named}");
}

/// The completions that a shell gets for the last of these words.
fn completions(ground: &Ground, words: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fwlb"));
    command.env("COMPLETE", "fish").env("FWLB_RUN_DIRECTORY", ground.directory.path());
    let output = command.arg("--").arg("fwlb").args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout).lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn shells_complete_the_names_that_running_engines_know() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    let names = |words: &[&str]| -> Vec<String> {
        completions(&ground, words).into_iter().filter(|word| !word.starts_with('-')).collect()
    };
    assert_eq!(names(&["set", "firewall", ""]), ["fw1", "fw2"]);
    assert_eq!(names(&["set", "firewall", "fw1", "d"]), ["drain", "default"]);
    assert_eq!(names(&["se", "f", "fw2", "m"]), ["maint"], "behind abbreviations too");
    assert_eq!(names(&["set", "server", ""]), ["web/s1", "web/s2"]);
    assert_eq!(names(&["-e", "inner", "probe", "p"]), ["perimeter/fw1", "perimeter/fw2"]);
    assert_eq!(names(&["probe", "-e", "outer", "web"]), [""; 0], "the outer engine has no services");
    assert_eq!(names(&["-e", ""]), ["inner", "outer"]);
    assert_eq!(names(&["kill", "--server", ""]), ["web/s1", "web/s2"]);

    let options = completions(&ground, &["sim", "--"]);
    assert!(options.contains(&"--seed".to_owned()) && options.contains(&"--json".to_owned()), "{options:?}");
    let options = [options, completions(&ground, &["show", "firewalls", "--"])].concat();
    assert!(!options.contains(&"--run-directory".to_owned()), "{options:?}");
    assert!(!completions(&ground, &["sim", "--"]).contains(&"--engine".to_owned()));

    let nobody = Ground::new(&[]);
    assert_eq!(completions(&nobody, &["set", "firewall", "f"]), [""; 0]);
    let stuck = Ground::new(&[]);
    let _silent = std::os::unix::net::UnixListener::bind(stuck.socket("stuck")).unwrap();
    let clock = fwlb::io::clock::Clock::new();
    let begin = clock.now();
    assert_eq!(completions(&stuck, &["set", "firewall", "f"]), [""; 0]);
    let taken = clock.now().since(begin);
    assert!(taken < std::time::Duration::from_secs(5), "an engine that is stuck does not hold the shell");

    let script = Command::new(env!("CARGO_BIN_EXE_fwlb")).args(["completions", "bash"]).output().unwrap();
    assert!(text(&script.stdout).contains("COMPLETE=\"bash\""), "{}", text(&script.stdout));
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_fwlb")).args(["man", "--directory"]).arg(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for page in ["fwlb.1", "fwlb-check.1", "fwlb-show-sessions.1", "fwlb-set-firewall.1"] {
        assert!(Path::new(&directory.path().join(page)).exists(), "{page}");
    }
}

#[test]
fn engines_that_are_named_by_their_sockets_are_captured_into_one_file() {
    let ground = Ground::new(&[("outer", 3), ("inner", 4)]);
    let file = ground.directory.path().join("both.pcapng");
    let sockets = format!("-s {} -s {}", ground.socket("outer").display(), ground.socket("inner").display());
    let line = format!("capture {sockets} -w {} --link firewalls --dropped", file.display());

    let captured = ground.fwlb(&line);

    assert_eq!(captured.status.code(), Some(0), "{}", text(&captured.stderr));
    assert_eq!(text(&captured.stderr), "2 frames of outer, inner; 0 lost because they came too fast\n");
    assert!(std::fs::read(file).unwrap().len() > 200);
    let one = ground.fails(&format!("probe perimeter/fw1 {sockets}"), 1);
    assert_eq!(one, "fwlb: one engine is asked at a time: name one socket, of outer, inner\n");
    let wrong = ground.fails("capture -w never.pcapng --dropped ttl_expird", 2);
    assert!(wrong.contains("'ttl_expired'"), "{wrong}");
}
