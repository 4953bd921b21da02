//! `fwlb lab` as a user runs it.

use std::process::{Command, Output};

use crate::ground::{FWLB, ground, netns_list, said};

fn lab(name: &str, words: &[&str]) -> Output {
    Command::new(FWLB).args(["lab", "--name", name]).args(words).output().expect("fwlb runs")
}

/// Removes the lab even if the test panics.
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
    let status = said(&lab(&name, &["status"]));
    assert!(down && status.lines().any(|line| line.contains("fw2") && line.contains("inner cable cut")), "{status}");
    assert!(lab(&name, &["heal", "fw2"]).status.success());
    assert!(!said(&lab(&name, &["status"])).contains("cable cut"));

    // An engine is killed and started again; the guide lists the command for the console.
    assert!(lab(&name, &["fail", "inner"]).status.success());
    let twice = lab(&name, &["fail", "inner"]);
    assert!(!twice.status.success() && said(&twice).contains("does not run"), "{}", said(&twice));
    assert!(lab(&name, &["heal", "inner"]).status.success());
    let directory = format!("/run/fwlb-lab/{name}");
    let healthy = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let health =
            Command::new(FWLB).env("FWLB_RUN_DIRECTORY", &directory).arg("health").output().expect("fwlb runs");
        health.status.success() && said(&health).contains("inner: ok")
    });
    assert!(healthy, "{}", said(&lab(&name, &["status"])));
    assert!(!lab(&name, &["fail", "fw9"]).status.success());

    // After a crash of the engines the lab can still be removed.
    let removed = lab(&name, &["down"]);
    assert!(removed.status.success(), "{}", said(&removed));
    assert!(!netns_list().contains(&format!("{name}-")));
    assert!(!std::path::Path::new("/run/fwlb-lab").join(&name).exists());
    assert!(lab(&name, &["down"]).status.success(), "removing nothing is no error");
    assert!(!lab(&name, &["status"]).status.success());
}

#[test]
fn every_harm_to_a_server_is_seen_for_its_own_reason_and_undone() {
    let Some(_alone) = ground() else { return };
    let name = format!("w{:x}", std::process::id());
    let _removed = Removed(name.clone());
    let up = lab(&name, &["up", "--firewalls", "1", "--servers", "4", "--weights", "1"]);
    assert!(up.status.success(), "{}", said(&up));
    let page = || said(&lab(&name, &["exec", "client", "--", "curl", "-s", "-m", "3", "http://192.0.2.80/"]));
    let served: Vec<_> = (0..4).map(|_| page()).collect();
    for server in ["s1", "s2", "s3", "s4"] {
        let greeting = format!("{server} greets 198.51.100.7:");
        assert_eq!(served.iter().filter(|page| page.contains(&greeting)).count(), 1, "{served:?}");
    }

    for harm in
        [&["fail", "s1"][..], &["fail", "server", "s2", "kill"], &["fail", "s3", "silent"], &["fail", "s4", "sick"]]
    {
        let failed = lab(&name, harm);
        assert!(failed.status.success(), "{harm:?}: {}", said(&failed));
    }
    status_shows(&name, |status| {
        [
            "web/s1 is down: ipv4: no SYN-ACK in 300ms",
            "web/s2 is down: ipv4: connection refused",
            "web/s3 is down: ipv4: no SYN-ACK in 300ms",
            "web/s4 is down: ipv4: HTTP 503, expected 200",
        ]
        .iter()
        .all(|line| status.contains(line))
    });
    let status = said(&lab(&name, &["status"]));
    for harm in ["unplugged", "programs killed", "drops everything", "answers 503"] {
        assert_eq!(status.matches(harm).count(), 1, "{status}");
    }
    assert!(!status.contains("echo/s4"), "only the pages of s4 are sick: {status}");
    assert!(page().contains("sorry greets "), "the sorry server speaks when every other is down");

    for server in ["s1", "s2", "s3", "s4"] {
        let healed = lab(&name, &["heal", server]);
        assert!(healed.status.success(), "{server}: {}", said(&healed));
    }
    status_shows(&name, |status| !status.contains(" is down: "));
    assert!(!page().contains("sorry"));
    for wrong in [&["fail", "s1", "drunk"][..], &["fail", "client"], &["fail", "s9"], &["heal", "s1", "sick"]] {
        assert!(!lab(&name, wrong).status.success(), "{wrong:?}");
    }
}

#[test]
fn a_plain_load_balancer_and_direct_servers_serve_in_both_families() {
    let Some(_alone) = ground() else { return };
    let name = format!("x{:x}", std::process::id());
    let _removed = Removed(name.clone());
    for shape in [&["--plain"][..], &["--mode", "direct", "--web", "built-in"], &["--mode", "full-nat", "--one-box"]] {
        let up = lab(&name, &[&["up", "--servers", "1"], shape].concat());
        assert!(up.status.success(), "{shape:?}: {}", said(&up));
        for url in ["http://192.0.2.80/", "http://[2001:db8:2::80]/"] {
            let page = lab(&name, &["exec", "client", "--", "curl", "-s", "-g", "-m", "3", url]);
            assert!(said(&page).contains("s1 greets"), "{shape:?} {url}: {}", said(&page));
        }
        let down = lab(&name, &["down"]);
        assert!(down.status.success(), "{shape:?}: {}", said(&down));
    }
}

#[test]
fn a_direct_server_that_lost_its_vip_is_told_from_one_that_has_it() {
    let Some(_alone) = ground() else { return };
    let name = format!("y{:x}", std::process::id());
    let _removed = Removed(name.clone());
    let up = lab(&name, &["up", "--plain", "--mode", "direct", "--servers", "2"]);
    assert!(up.status.success(), "{}", said(&up));

    let lost = lab(&name, &["exec", "s2", "--", "ip", "address", "del", "192.0.2.80/32", "dev", "lo"]);
    assert!(lost.status.success(), "{}", said(&lost));

    status_shows(&name, |status| {
        status.contains("web/s2 is down for ipv4: no SYN-ACK in 300ms; is 192.0.2.80 on the server's loopback?")
    });
    let status = said(&lab(&name, &["status"]));
    assert!(!status.contains("s1 is down"), "{status}");
    let page = lab(&name, &["exec", "client", "--", "curl", "-s", "-m", "3", "http://192.0.2.80/"]);
    assert!(said(&page).contains("s1 greets"), "{}", said(&page));
}

/// Waits until `wanted` is true for the output of `fwlb lab status`.
#[track_caller]
fn status_shows(name: &str, wanted: impl Fn(&str) -> bool) {
    let shown = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        wanted(&said(&lab(name, &["status"])))
    });
    assert!(shown, "{}", said(&lab(name, &["status"])));
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
