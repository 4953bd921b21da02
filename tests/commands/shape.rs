//! The form of answers: words and rates of counters, JSON, colours.

use serde_json::{Value, json};

use crate::ground::Ground;

#[test]
fn counters_have_words_and_rates_and_zeros_are_left_out_on_request() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    assert_eq!(
        ground.prints("show counters -e outer"),
        "COUNTER        VALUE  WHAT\n\
         drop_no_route      0  There is no route to the destination.\n\
         forwarded          7  Frames that left by another link than they came by.\n\
         received           7  Frames taken from the rings.\n"
    );
    let both = ground.prints("show counters --nonzero");
    assert!(both.starts_with("ENGINE  COUNTER    VALUE  WHAT\ninner   forwarded      7"), "{both}");
    assert!(!both.contains("drop_no_route"), "{both}");

    let moving = ground.json("show counters --rate=100ms --nonzero --json -e outer");
    let row = &moving[0];
    assert_eq!(
        (moving.as_array().unwrap().len(), &row["engine"], &row["name"]),
        (1, &json!("outer"), &json!("received"))
    );
    let rate = row["per_second"].as_f64().unwrap();
    assert!(rate > 1.0 && rate <= 1000.0, "100 frames in 100 ms or more: {rate}");
    let table = ground.prints("show counters --rate=100ms -e outer");
    assert!(table.lines().next().unwrap().contains("PER-SECOND  WHAT"), "{table}");
    assert!(ground.fails("show counters --rate=1ms", 2).contains("100ms to 1h"));
}

#[test]
fn what_goes_wrong_is_json_where_json_is_asked_for() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    let complaint = |line: &str, status| -> Value {
        let said = ground.fails(line, status);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: {error}: {said}"))
    };
    assert_eq!(
        complaint("set firewall fw9 drain --json", 1),
        json!({ "error": "not_found", "message": "no firewall \"fw9\"; there are: fw1" })
    );
    assert_eq!(complaint("--json show -e dmz", 1)["error"], "failed");
    assert_eq!(complaint("set firewall fw1 ready --wait 5s --json", 2)["error"], "usage");
    assert_eq!(complaint("show --json nothing", 2)["error"], "usage");
    assert_eq!(complaint("clear --json", 2)["message"], "`clear` is reserved for a later version");
    assert_eq!(complaint("sh s --json", 2)["message"], "`s` may be status, services, sessions: write more of it");
    let cut = ground.fwlb("show sessions --json --limit 1 -e outer");
    let note: Value = serde_json::from_slice(&cut.stderr).unwrap();
    assert_eq!(note, json!({ "note": "1 of 3 sessions (--limit 0 for all)" }));
}

#[test]
fn a_change_is_told_in_json_with_its_engine() {
    let ground = Ground::new(&[("outer", 0), ("inner", 0)]);
    let row =
        |engine: &str| json!({ "engine": engine, "done": "firewall fw1 is set to drain", "held": [], "warnings": [] });
    assert_eq!(ground.json("set firewall fw1 drain --wait 5s --json"), json!([row("inner"), row("outer")]));
}

#[test]
fn states_have_colours_where_they_are_asked_for() {
    let ground = Ground::new(&[("inner", 5)]);
    let plain = ground.prints("show services");
    assert!(!plain.contains('\u{1b}'), "no colours into a pipe: {plain:?}");
    for line in ["show services --color", "--color=always show services", "-c show services"] {
        let coloured = ground.prints(line);
        assert!(coloured.contains("\u{1b}[38;5;1mdown\u{1b}["), "{line}: {coloured:?}");
    }
    assert_eq!(ground.prints("show services --color=never"), plain);
    assert!(ground.fails("show --color=sometimes", 2).contains("never"));
}
