//! Configurations: the one in force, earlier ones, reloads and plans.

use fwlb::api::calls;

use crate::ground::{Ground, text};

#[test]
fn the_configuration_comes_as_it_is() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    assert_eq!(ground.prints("show config -e outer"), "# of outer\n");
    assert_eq!(ground.prints("show config"), "# engine inner\n# of inner\n# engine outer\n# of outer\n");
}

#[test]
fn the_last_configurations_are_listed_returned_to_and_confirmed() {
    let ground = Ground::new(&[("outer", 3)]);
    assert_eq!(
        ground.prints("show configs"),
        "1  2026-01-02T03:04:05.678Z  start  0000000000000001  /etc/fwlb/outer.toml\n\
         0  2026-01-02T03:04:05.678Z  reload by kim  0000000000000000  /etc/fwlb/outer.toml, in force, not confirmed yet\n     \
         firewall perimeter/fw2: weight 1 -> 3\n"
    );
    let printed = ground.prints("rollback 2");
    assert!(printed.contains("engine outer runs with /var/lib/fwlb/outer/config-2.toml\n"), "{printed}");
    assert!(printed.contains("cp /var/lib/fwlb/outer/config-3.toml /etc/fwlb/outer.toml\n"), "{printed}");
    assert_eq!(ground.prints("confirm"), "the configuration is confirmed and stays\n");
    ground.prints("reload --confirm 2m");
    ground.fails("rollback 2 --plan", 1);
    let by = || Some("unknown user, claimed name \"kim\"".to_owned());
    assert_eq!(
        ground.asked(0),
        [
            calls::Configs {}.into(),
            calls::Rollback { back: Some(2), by: by() }.into(),
            calls::Confirm { by: by() }.into(),
            calls::Reload { config: None, confirm_ms: Some(120_000), by: by() }.into(),
            calls::Plan { config: None, back: Some(2) }.into(),
        ]
    );
}

#[test]
fn a_reload_names_the_file_as_the_engine_understands_it_and_tells_what_it_did() {
    let ground = Ground::new(&[("outer", 3)]);

    let printed = ground.prints("reload some/new.toml");
    let path = std::env::current_dir().unwrap().join("some/new.toml");
    assert_eq!(
        printed,
        format!(
            "firewall perimeter/fw2: weight 1 -> 3\nengine outer runs with {}\n\
             a reload without a file, and a restart, take /etc/fwlb/outer.toml again\n\
             to bring it over: cp /var/lib/fwlb/outer/config-3.toml /etc/fwlb/outer.toml\n",
            path.display()
        )
    );
    assert_eq!(
        ground.asked(0),
        [calls::Reload {
            config: Some(path),
            by: Some("unknown user, claimed name \"kim\"".to_owned()),
            confirm_ms: None
        }
        .into()]
    );

    assert_eq!(
        ground.prints("reload"),
        "nothing has changed: engine outer ran with what /etc/fwlb/outer.toml says already\n"
    );
    assert_eq!(ground.json("reload /x.toml --json")["differences"][0]["subject"], "firewall perimeter/fw2");
    let complaint = ground.fails("reload /etc/fwlb/bad.toml", 1);
    assert!(complaint.contains("/etc/fwlb/bad.toml:3:10: error: weight must be 1..=256"), "{complaint}");
}

#[test]
fn a_plan_that_takes_a_restart_says_so_and_its_status_is_no() {
    let ground = Ground::new(&[("outer", 3)]);
    let output = ground.fwlb("plan /etc/fwlb/new.toml");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stdout),
        "firewall perimeter/fw2: weight 1 -> 3\na reload would refuse this: restart engine outer for it\n"
    );
    assert!(text(&output.stderr).contains("new.toml:4:11: error"), "{}", text(&output.stderr));
    assert_eq!(ground.asked(0), [calls::Plan { config: Some("/etc/fwlb/new.toml".into()), back: None }.into()]);
}

#[test]
fn two_engines_are_not_reloaded_at_a_guess() {
    let ground = Ground::new(&[("inner", 1), ("outer", 3)]);
    let complaint = ground.fails("reload", 1);
    assert!(complaint.contains("inner, outer") && complaint.contains("-e NAME"), "{complaint}");
    assert!(ground.asked(0).is_empty() && ground.asked(1).is_empty());
}
