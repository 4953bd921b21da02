//! Sources that are refused, as the operator sees them.

use super::sandwich::{OUTER, Sandwich};
use crate::engine::view::AlarmKind;
use crate::flow::SourcePrefix;
use crate::session::{OverLimit, Refusal};
use crate::time::Duration;

#[test]
fn who_is_refused_is_an_alarm_until_nobody_is_for_half_a_minute() {
    let mut sandwich = Sandwich::new(2);
    let source = SourcePrefix::of("2001:db8:1:2::7".parse().unwrap());
    let tell = |sandwich: &mut Sandwich, refusals: Vec<Refusal>| {
        let now = sandwich.now;
        sandwich.engines[OUTER].handle_refusals(refusals.into_iter(), now);
        let alarms =
            sandwich.engines[OUTER].alarms(now).into_iter().filter(|alarm| alarm.kind == AlarmKind::SourceRefused);
        alarms.map(|alarm| (alarm.subject, alarm.reason)).collect::<Vec<_>>()
    };
    let refusal = Refusal { reason: OverLimit::Share, source, sessions: 57_344 };
    let told = tell(&mut sandwich, vec![refusal]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "source_share");
    assert!(told[0].1.starts_with("2001:db8:1:2::/64 has 57344 sessions and is refused more: "), "{}", told[0].1);

    sandwich.run(Duration::from_secs(29));
    assert_eq!(tell(&mut sandwich, vec![Refusal { sessions: 9, ..refusal }])[0].1.split(' ').nth(2), Some("9"));
    sandwich.run(Duration::from_secs(29));
    assert_eq!(tell(&mut sandwich, vec![]).len(), 1);
    sandwich.run(Duration::from_secs(1));
    assert_eq!(tell(&mut sandwich, vec![]), []);
}
