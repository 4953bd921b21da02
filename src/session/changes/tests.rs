use std::collections::VecDeque;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::flow::{Endpoint, FlowKey};

fn flow(v6: bool, bits: u64) -> FlowKey {
    let end = |bits: u64| Endpoint {
        address: if v6 { u128::from(bits).to_be_bytes().into() } else { (bits as u32).to_be_bytes().into() },
        port: bits as u16,
    };
    FlowKey { protocol: bits as u8, source: end(bits), destination: end(bits.rotate_left(20)) }
}

fn write(writer: &mut ChangeWriter, change: SessionChange) {
    match change {
        SessionChange::Changed(id) => writer.changed(id),
        SessionChange::Ended { id, key, opened } => writer.ended(id, &key, opened),
    }
}

fn change() -> impl Strategy<Value = SessionChange> {
    prop_oneof![
        (any::<u32>(), any::<u32>())
            .prop_map(|(slot, generation)| { SessionChange::Changed(SessionId { slot, generation: generation | 1 }) }),
        (any::<bool>(), any::<u64>()).prop_map(|(v6, bits)| {
            let (key, opened) = flow(v6, bits).canonical();
            SessionChange::Ended { id: SessionId { slot: !bits as u32, generation: (bits >> 32) as u32 }, key, opened }
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_order_and_what_does_not_fit_is_known(
        changes in prop::collection::vec((change(), any::<bool>()), 0..200),
    ) {
        let (mut writer, mut reader) = change_ring(16);
        let mut expected = VecDeque::new();
        for (change, then_reads) in changes {
            write(&mut writer, change);
            if !reader.take_overflow() {
                expected.push_back(change);
            }
            if then_reads {
                prop_assert_eq!(reader.poll(), expected.pop_front());
            }
        }
        prop_assert_eq!(std::iter::from_fn(|| reader.poll()).collect::<VecDeque<_>>(), expected);
        prop_assert!(!reader.take_overflow());
    }
}

#[test]
fn a_reader_beside_the_writer_sees_whole_changes_or_an_overflow() {
    const COUNT: u32 = 200_000;
    let (mut writer, mut reader) = change_ring(64);
    let told = |number: u32| match number % 3 {
        0 => {
            let (key, opened) = flow(number.is_multiple_of(2), u64::from(number) << 17 | 5).canonical();
            SessionChange::Ended { id: SessionId { slot: !number, generation: number }, key, opened }
        }
        _ => SessionChange::Changed(SessionId { slot: number, generation: number | 1 }),
    };
    let writing = thread::spawn(move || (0..COUNT).for_each(|number| write(&mut writer, told(number))));
    let (mut next, mut seen, mut overflows) = (0, 0, false);
    loop {
        let is_over = writing.is_finished();
        while let Some(change) = reader.poll() {
            next = (next..COUNT).find(|number| told(*number) == change).expect("only what was written, in order") + 1;
            seen += 1;
        }
        overflows |= reader.take_overflow();
        if is_over {
            break;
        }
    }
    writing.join().unwrap();
    assert!(seen == COUNT || overflows, "{seen} of {COUNT}, and nothing says that some are missing");
    assert!(seen >= 64 / 6);
}
