//! Every example configuration is accepted by the library and by the program, and bad ones are refused with the right
//! message.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fwlb::config::{self, DOCUMENTATION_SEED};

/// The directories of `configs/`, each with the files of one set-up.
fn examples() -> Vec<Vec<PathBuf>> {
    let sorted = |directory: &Path| {
        let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    sorted(&root).iter().map(|directory| sorted(directory)).collect()
}

fn fwlb(arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fwlb")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_example_means_what_it_should_and_fits_its_peer() {
    let examples = examples();
    assert!(examples.len() >= 9, "{examples:?}");
    for files in examples {
        assert!((1..=4).contains(&files.len()), "{files:?}: an engine alone, one for each zone, or two pairs");
        let load = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            config::load(&path.to_string_lossy(), &text, &mut |path| panic!("{} is needed", path.display()))
        };
        let mut outcomes: Vec<_> = files.iter().map(load).collect();
        config::compare(&mut outcomes);
        for outcome in &outcomes {
            assert!(outcome.config.is_some(), "{}", outcome.diagnostics);
            // The only warnings are about the public seed and the public key, in files that have one.
            let complaints = |about: &str| outcome.diagnostics.iter().filter(|one| one.message.contains(about)).count();
            let seeds = outcome.config.as_ref().map_or(0, |config| config.groups.len());
            let keys = outcome.config.as_ref().map_or(0, |config| usize::from(config.ha.is_some()));
            let found = (complaints("documentation's seed"), complaints("documentation's key"), complaints(""));
            assert_eq!(found, (seeds, keys, seeds + keys), "{}", outcome.diagnostics);
            let served = outcome.config.as_ref().is_some_and(|config| !config.services.is_empty());
            assert!(files.len() >= 2 || served, "{files:?}: an engine that stands alone has services");
        }
    }
}

#[test]
fn the_program_accepts_every_example() {
    for files in examples() {
        let output = fwlb(std::iter::once(Path::new("check")).chain(files.iter().map(PathBuf::as_path)));
        assert_eq!(output.status.code(), Some(0), "{files:?}: {}", text(&output.stderr));
        let report = text(&output.stdout);
        for file in &files {
            assert!(report.contains(&format!("{}: ok", file.display())), "{report}");
        }
        let told = ["its firewalls must permit these probes", "a dead server is out within"];
        assert!(told.iter().any(|words| report.contains(words)), "{report}");
    }
}

#[test]
fn the_files_of_a_pair_differ_in_nothing_that_its_nodes_must_agree_on() {
    let load = |name: &str| {
        let path = format!("{}/configs/pair/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        config::load(&path, &text, &mut |path| panic!("{} is needed", path.display()))
    };
    for side in ["outer", "inner"] {
        let [first, second] = ["a", "b"].map(|node| {
            let outcome = load(&format!("{side}-{node}"));
            outcome.config.and_then(|config| config.role_machine("1")).expect("a node of a cluster")
        });
        assert_eq!(first.digests, second.digests, "{side}: these sections are the same in both files");
        assert_ne!(first.me, second.me);
        assert_eq!(first.legs.iter().filter(|leg| leg.floating.is_empty()).count(), 0);
    }

    // What one side says of the engines of the other is judged by their own files.
    let wrong = std::fs::read_to_string(format!("{}/configs/pair/outer-a.toml", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let wrong = wrong.replace("\"inner-b\", addresses = [\"10.2.0.3\"", "\"inner-b\", addresses = [\"10.2.0.4\"");
    let mut both = [config::load("outer-a.toml", &wrong, &mut |_| Err(String::new())), load("inner-b")];
    config::compare(&mut both);
    let told = both[0].diagnostics.to_string();
    assert!(told.contains("engine \"inner-b\" has no own address 10.2.0.4"), "{told}");
}

#[test]
fn the_program_shows_every_mistake_of_a_bad_file_and_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let bad = directory.path().join("bad.toml");
    std::fs::write(
        &bad,
        format!(
            "[engine]\nname = \"a b\"\n[[link]]\nname = \"x\"\ndevice = \"eth0\"\nadresses = \"{DOCUMENTATION_SEED}\"\n"
        ),
    )
    .unwrap();

    let output = fwlb([Path::new("check"), &bad]);

    assert_eq!(output.status.code(), Some(1));
    let (bad, shown) = (bad.display(), text(&output.stderr));
    assert_eq!(
        shown,
        format!(
            "{bad}:2:8: error: not a name: \"a b\": it may hold letters, digits, `.`, `_` and `-`\n  \
               |\n\
             2 | name = \"a b\"\n  \
               |        ^^^^^\n\
             {bad}:6:1: error: unknown key `adresses` in [[link]]\n  \
               |\n\
             6 | adresses = \"documentation seed, replace it\"\n  \
               | ^^^^^^^^\n  \
               |\n  \
               = help: did you mean `addresses`?\n"
        )
    );
    assert_eq!(text(&output.stdout), format!("{bad}: 2 errors\n"));
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let output = fwlb(["check", "/nonexistent/outer.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "fwlb: cannot read /nonexistent/outer.toml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn without_an_engine_the_program_says_how_to_start_one() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fwlb"));
        command.args(arguments).env("FWLB_RUN_DIRECTORY", directory.path()).output().unwrap()
    };
    for arguments in
        [&["show"][..], &["explain", "esp", "192.0.2.1", "192.0.2.2"], &["set", "firewall", "fw1", "drain"]]
    {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains("no engine runs here") && said.contains("fwlb run CONFIG"), "{said}");
    }
    let output = run(&["show", "-s", "/nonexistent.sock"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no engine listens on /nonexistent.sock"), "{}", text(&output.stderr));
}

#[test]
fn words_of_later_versions_are_refused_with_words_of_their_own() {
    let output = fwlb(["clear"]);
    let said = "fwlb: `clear` is reserved for a later version\n";
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), said.to_owned()));
}

#[test]
fn a_reader_that_goes_early_is_no_error() {
    use std::io::Read;
    use std::process::Stdio;

    let mut child = Command::new(env!("CARGO_BIN_EXE_fwlb"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said), (Some(0), String::new()));
}

#[test]
fn both_files_of_a_sandwich_explain_the_same_firewall_for_a_flow() {
    let explain = |file: &str, flow: &str| {
        let file = format!("{}/configs/two-box/{file}.toml", env!("CARGO_MANIFEST_DIR"));
        let words = ["explain", "--json", "-c", &file].into_iter().chain(flow.split(' '));
        let output = fwlb(words);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let mut taken = std::collections::BTreeSet::new();
    for port in 40_000..40_016 {
        let (client, server) = (format!("198.51.100.7:{port}"), "203.0.113.80:80");
        let there = explain("outer", &format!("tcp {client} {server}"));
        let back = explain("inner", &format!("tcp {server} {client}"));

        assert_eq!(there["decided_by"], "hash", "{there}");
        assert_eq!(there["firewall"], back["firewall"], "{there}\n{back}");
        assert_eq!(there["candidates"].as_array().unwrap().len(), 2);
        assert_eq!(there["egress"]["link"], "firewalls");
        taken.insert(there["firewall"].to_string());
    }
    assert_eq!(taken.len(), 2, "16 flows took {taken:?}");

    // `plan` predicts it and `reload` does it; each output fits the width of a terminal.
    let words = "explain -c configs/two-box/outer.toml tcp 198.51.100.7:40000 203.0.113.80:80";
    let told: serde_json::Value =
        serde_json::from_slice(&fwlb(words.split(' ').chain(["--json", "--peer"])).stdout).unwrap();
    let taken = format!("perimeter/{}", told["firewall"].as_str().unwrap());
    let after = fwlb(words.split(' ').chain(["--json", "--down", &taken]));
    let after: serde_json::Value = serde_json::from_slice(&after.stdout).unwrap();
    assert_eq!(told["what_if"][0]["name"], taken.as_str(), "{told}");
    assert_eq!(told["what_if"][0]["firewall"], after["firewall"], "{told}\n{after}");
    assert_eq!(told["peer_answer"]["agrees"], true, "{told}");
    assert!(after["story"][0].as_str().unwrap().contains(&format!("up but {taken}")), "{after}");
    let drawn = fwlb(words.split(' ').chain(["--peer", "--down", &taken]));
    let drawn = text(&drawn.stdout);
    assert!(drawn.lines().all(|line| line.chars().count() < 80), "{drawn}");
    assert!(drawn.contains("\n  answer     firewall fw") && drawn.contains("\nwhy\n"), "{drawn}");
    let unknown = fwlb(words.split(' ').chain(["--down", "perimeter/fw9"]));
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("no firewall \"perimeter/fw9\"; there are:"), "{}", text(&unknown.stderr));

    let output =
        fwlb(["explain", "-c", "configs/two-box/outer.toml", "--from", "clients", "esp", "1.1.1.1", "2.2.2.2"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "fwlb: no link \"clients\"; there are: internet, firewalls\n");
}

#[test]
fn problems_are_told_to_programs_as_rows() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.toml");
    let text_of_file =
        "[engine]\nname = \"x\"\n[[link]]\nname = \"a\"\ndevice = \"no-such-dev0\"\nadresses = \"10.0.0.1/24\"\n";
    std::fs::write(&file, text_of_file).unwrap();
    let rows = |output: &Output| serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();

    let output = fwlb([Path::new("check"), Path::new("--json"), &file]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    assert_eq!(
        rows(&output),
        serde_json::json!([{
            "file": file.display().to_string(), "line": 6, "column": 1, "severity": "error",
            "message": "unknown key `adresses` in [[link]]", "hint": "did you mean `addresses`?", "related": [],
        }])
    );

    std::fs::write(&file, text_of_file.replace("adresses", "addresses")).unwrap();
    let output = fwlb([Path::new("check"), Path::new("--json"), &file]);
    assert_eq!((output.status.code(), rows(&output)), (Some(0), serde_json::json!([])));
    let told = text(&fwlb([Path::new("check"), &file]).stdout);
    assert!(told.contains(": ok\n") && told.contains("this one has none of them"), "{told}");
}
