use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64};

use proptest::prelude::*;

use super::*;
use crate::flow::{CanonicalKey, Endpoint, FlowKey};

fn key(number: u32) -> KeyWords {
    let end = |address: u32, port| Endpoint { address: address.to_be_bytes().into(), port };
    let flow = FlowKey { protocol: 17, source: end(number, 1), destination: end(u32::MAX, 2) };
    let (key, _): (CanonicalKey, _) = flow.canonical();
    KeyWords::of(&key)
}

/// A hash with this tag, whose home bucket lies at `home` eighths of a small index.
fn hash(home: u64, tag: u64) -> KeyHash {
    KeyHash(tag << 32 | home << 29)
}

#[test]
fn keys_that_do_not_fit_their_home_are_found_further_on_until_they_leave() {
    let index = Index::new(40, [1, 2, 3, 4]);
    let slots = index.buckets * ENTRIES_PER_BUCKET as u32;
    for slot in 0..slots {
        assert_eq!(index.insert(hash(7, 9), slot, |_| None::<()>), InsertResult::New, "slot {slot} of {slots}");
    }
    assert_eq!(index.insert(hash(7, 9), slots, |_| None::<()>), InsertResult::NoRoom);
    for slot in 0..slots {
        assert_eq!(index.find(hash(7, 9), |found| (found == slot).then_some(found)), Some(slot));
    }
    for slot in 0..slots {
        index.remove(hash(7, 9), slot);
        assert_eq!(index.find(hash(7, 9), |found| (found == slot).then_some(found)), None);
    }
    let is_empty = |bucket| index.bucket(bucket).iter().all(|word| word.load(Relaxed) == 0);
    assert!((0..index.buckets).all(is_empty), "nothing is left, not even a count");
}

#[test]
fn keys_spread_so_evenly_that_a_full_index_never_runs_out_of_reach() {
    const KEYS: u32 = 200_000;
    let index = Index::new(KEYS as usize, [1, 2, 3, 4]);
    for slot in 0..KEYS {
        assert_eq!(index.insert(index.hash(&key(slot)), slot, |_| None::<()>), InsertResult::New);
    }
    let passed = (0..index.buckets).map(|bucket| index.bucket(bucket)[OVERFLOW].load(Relaxed)).max();
    assert!(passed < Some(64), "{passed:?} keys passed over one bucket");
}

proptest! {
    #[test]
    fn it_does_what_a_plain_map_would(
        steps in prop::collection::vec((0u64..8, 0u64..4, any::<bool>()), 1..300),
        keys in 1usize..40,
    ) {
        let index = Index::new(keys, [1, 2, 3, 4]);
        let room = index.buckets as usize * ENTRIES_PER_BUCKET;
        // The key in each slot. A key that is entered again gets a new slot.
        let slots: Vec<_> = steps.iter().map(|_| AtomicU64::new(u64::MAX)).collect();
        let is_in = |home: u64, tag: u64| {
            let slots = &slots;
            move |slot: u32| (slots[slot as usize].load(Relaxed) == home << 8 | tag).then_some(slot)
        };
        let mut model = BTreeMap::new();
        for (slot, (home, tag, enters)) in (0..).zip(steps) {
            if enters {
                slots[slot as usize].store(home << 8 | tag, Relaxed);
                let entered = index.insert(hash(home, tag), slot, |other| (other != slot).then(|| is_in(home, tag)(other)).flatten());
                match model.get(&(home, tag)) {
                    Some(&existing) => prop_assert_eq!(entered, InsertResult::Existing(existing)),
                    None if model.len() == room => prop_assert_eq!(entered, InsertResult::NoRoom),
                    None => {
                        prop_assert_eq!(entered, InsertResult::New);
                        model.insert((home, tag), slot);
                    }
                }
            } else if let Some(slot) = model.remove(&(home, tag)) {
                index.remove(hash(home, tag), slot);
            }
            for home in 0..8 {
                for tag in 0..4 {
                    prop_assert_eq!(index.find(hash(home, tag), is_in(home, tag)), model.get(&(home, tag)).copied());
                }
            }
        }
    }
}

#[test]
fn of_workers_that_enter_one_key_at_once_one_succeeds() {
    const WORKERS: u32 = 4;
    const ROUNDS: u32 = 3_000;
    let index = Index::new(8, [1, 2, 3, 4]);
    let [entered, left] = [AtomicU32::new(0), AtomicU32::new(0)];
    // One key in any slot. Every bucket is nearly full, so that workers also compete for places.
    (0..4).for_each(|slot| _ = index.insert(hash(3, 1), 1000 + slot, |_| None::<()>));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (index, entered, left) = (&index, &entered, &left);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if index.insert(hash(3, 2), worker, |other| (other < WORKERS).then_some(other)) == InsertResult::New
                    {
                        let inside = entered.fetch_add(1, Relaxed) - left.load(Relaxed);
                        assert_eq!(inside, 0, "two workers entered the same key");
                        left.fetch_add(1, Relaxed);
                        index.remove(hash(3, 2), worker);
                    }
                }
            });
        }
    });
    assert_eq!(index.find(hash(3, 2), Some), None);
    assert!((0..4).all(|slot| index.find(hash(3, 1), |found| (found == 1000 + slot).then_some(())).is_some()));
}
