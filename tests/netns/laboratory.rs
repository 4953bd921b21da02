//! The laboratory as its user has it: `fwlb lab`.

use std::process::{Command, Output};

use crate::ground::{FWLB, ground, netns_list, said};

fn lab(name: &str, words: &[&str]) -> Output {
    Command::new(FWLB).args(["lab", "--name", name]).args(words).output().expect("fwlb runs")
}

/// Removes the lab also when the test panics.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        lab(&self.0, &["down"]);
    }
}

#[test]
fn a_lab_stands_breaks_heals_and_leaves_no_trace() {
    let Some(_alone) = ground() else { return };
    let name = format!("u{:x}", std::process::id());
    let _removed = Removed(name.clone());

    let up = lab(&name, &["up", "--firewalls", "3"]);
    assert!(up.status.success(), "{}", said(&up));
    assert!(said(&up).contains("curl") && said(&up).contains("fwlb lab"), "{}", said(&up));
    let again = lab(&name, &["up"]);
    assert!(!again.status.success() && said(&again).contains("stands already"), "{}", said(&again));
    let page = lab(&name, &["exec", "client", "--", "curl", "-s", "-m", "3", "http://203.0.113.12/"]);
    assert!(said(&page).contains("s2 greets 198.51.100.7:"), "{}", said(&page));
    let code = lab(&name, &["exec", "s1", "--", "sh", "-c", "exit 7"]);
    assert_eq!(code.status.code(), Some(7), "exec hands the exit status on");

    assert!(lab(&name, &["fail", "fw2", "--leg", "inner"]).status.success());
    let down = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        said(&lab(&name, &["status"])).lines().any(|line| line.contains("fw2") && line.contains("down"))
    });
    assert!(down, "{}", said(&lab(&name, &["status"])));
    assert!(lab(&name, &["heal", "fw2"]).status.success());
    assert!(!lab(&name, &["fail", "fw9"]).status.success());

    // A crash of the engines leaves the lab to be removed all the same.
    let removed = lab(&name, &["down"]);
    assert!(removed.status.success(), "{}", said(&removed));
    assert!(!netns_list().contains(&format!("{name}-")));
    assert!(!std::path::Path::new("/run/fwlb-lab").join(&name).exists());
    assert!(lab(&name, &["down"]).status.success(), "removing nothing is no error");
    assert!(!lab(&name, &["status"]).status.success());
}

#[test]
fn the_tour_keeps_its_promises_and_cleans_up() {
    let Some(_alone) = ground() else { return };
    let name = format!("v{:x}", std::process::id());
    let _removed = Removed(name.clone());

    let tour = lab(&name, &["demo"]);

    assert!(tour.status.success(), "{}", said(&tour));
    assert!(said(&tour).contains(" promises kept, 0 broken"), "{}", said(&tour));
    assert!(!netns_list().contains(&format!("{name}-")));
}
