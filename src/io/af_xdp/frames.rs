//! Keeps the books of who owns which frame of a worker's UMEM. A frame has one owner at a time, and each change of
//! owner is a function here: no frame is lost or handed out twice, whatever the kernel writes into its rings.
//!
//! ```text
//!            fill                       note_received
//!   free ────────────▶ KernelReceive(q) ────────────▶ Worker ──┐ free_taken
//!    ▲ ▲                                               ▲   │   │
//!    │ │ note_returned                       take_free │   │ give_to_kernel
//!    │ └──────────────── KernelSend(q) ◀───────────────┼───┘   │
//!    └─────────────────────────────────────────────────┴───────┘
//! ```
//!
//! When a socket is closed, its frames rest for a second, because a device with direct access to them stops only a
//! moment later.

use crate::time::{Duration, Instant};

/// How long the frames of a closed socket rest.
const RESTING_TIME: Duration = Duration::from_secs(1);

/// Index of a frame in the UMEM.
pub(super) type FrameIndex = u32;

/// Index of a socket among those of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketIndex(pub u16);

/// Stands for the queue of a frame that the worker fills himself.
pub(super) const SELF_MADE: SocketIndex = SocketIndex(u16::MAX);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Free,
    /// Owned by the kernel, to receive into by this queue.
    KernelReceive(SocketIndex),
    /// Owned by the worker; received by this queue, or [`SELF_MADE`].
    Worker(SocketIndex),
    /// Owned by the kernel, to be sent by this queue.
    KernelSend(SocketIndex),
    Resting,
}

/// The owner of each frame.
#[derive(Debug)]
pub(super) struct FrameOwners {
    owners: Vec<Owner>,
    /// A stack: the frame that was used last is the likeliest to be in a cache.
    free: Vec<FrameIndex>,
    resting: Vec<FrameIndex>,
    rest_since: Option<Instant>,
}

impl FrameOwners {
    /// Books for `count` free frames.
    pub(super) fn new(count: u32) -> Self {
        Self {
            owners: vec![Owner::Free; count as usize],
            free: (0..count).rev().collect(),
            resting: Vec::new(),
            rest_since: None,
        }
    }

    /// Number of frames, whoever owns them.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.owners.len()).expect("made of a u32")
    }

    /// Takes a free frame for `queue` to receive into.
    pub(super) fn fill(&mut self, queue: SocketIndex) -> Option<FrameIndex> {
        self.pop_free(Owner::KernelReceive(queue))
    }

    /// Takes a free frame for the worker to fill.
    pub(super) fn take_free(&mut self) -> Option<FrameIndex> {
        self.pop_free(Owner::Worker(SELF_MADE))
    }

    fn pop_free(&mut self, place: Owner) -> Option<FrameIndex> {
        let frame = self.free.pop()?;
        self.owners[frame as usize] = place;
        Some(frame)
    }

    /// Notes that, as the kernel says, `queue` received into `frame`. It is the worker's then; false if the kernel did
    /// not own it.
    pub(super) fn note_received(&mut self, frame: FrameIndex, queue: SocketIndex) -> bool {
        self.change_owner(frame, Owner::KernelReceive(queue), Owner::Worker(queue))
    }

    /// Notes that the worker gives `frame` to `queue` for sending; returns the queue that received it, `None` if it is
    /// not his.
    pub(super) fn give_to_kernel(&mut self, frame: FrameIndex, queue: SocketIndex) -> Option<SocketIndex> {
        let Some(Owner::Worker(from)) = self.owners.get(frame as usize).copied() else { return None };
        self.owners[frame as usize] = Owner::KernelSend(queue);
        Some(from)
    }

    /// Notes that `queue` has given `frame` back: the kernel has sent it, or it was taken back unsent. It is free then;
    /// false if that queue did not have it.
    pub(super) fn note_returned(&mut self, frame: FrameIndex, queue: SocketIndex) -> bool {
        let is_true = self.change_owner(frame, Owner::KernelSend(queue), Owner::Free);
        self.free.extend(is_true.then_some(frame));
        is_true
    }

    /// Frees a frame that the worker has no use for; false if it was not his.
    pub(super) fn free_taken(&mut self, frame: FrameIndex) -> bool {
        let Some(Owner::Worker(_)) = self.owners.get(frame as usize) else { return false };
        self.owners[frame as usize] = Owner::Free;
        self.free.push(frame);
        true
    }

    fn change_owner(&mut self, frame: FrameIndex, from: Owner, to: Owner) -> bool {
        match self.owners.get_mut(frame as usize) {
            Some(place) if *place == from => {
                *place = to;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Lets the frames rest that the kernel owns through `queue`, whose socket is closed.
    pub(super) fn rest_frames_of(&mut self, queue: SocketIndex) {
        for (frame, place) in (0..).zip(&mut self.owners) {
            if *place == Owner::KernelReceive(queue) || *place == Owner::KernelSend(queue) {
                *place = Owner::Resting;
                self.resting.push(frame);
                self.rest_since = None;
            }
        }
    }

    /// Frees the frames that have rested long enough. To be called several times a second.
    pub(super) fn free_rested(&mut self, now: Instant) {
        if self.resting.is_empty() || now.since(*self.rest_since.get_or_insert(now)) < RESTING_TIME {
            return;
        }
        for frame in self.resting.drain(..) {
            self.owners[frame as usize] = Owner::Free;
            self.free.push(frame);
        }
        self.rest_since = None;
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: SocketIndex = SocketIndex(0);
    const B: SocketIndex = SocketIndex(1);

    fn queue(number: u8) -> SocketIndex {
        if number.is_multiple_of(2) { A } else { B }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Fill(u8),
        Make,
        Arrived(FrameIndex, u8),
        Leave(FrameIndex, u8),
        Returned(FrameIndex, u8),
        GiveUp(FrameIndex),
        Abandon(u8),
        Tend(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Frames beyond the UMEM are what a misbehaving kernel would report.
        let frame = || 0u32..10;
        let step = prop_oneof![
            any::<u8>().prop_map(Step::Fill),
            Just(Step::Make),
            (frame(), any::<u8>()).prop_map(|(frame, queue)| Step::Arrived(frame, queue)),
            (frame(), any::<u8>()).prop_map(|(frame, queue)| Step::Leave(frame, queue)),
            (frame(), any::<u8>()).prop_map(|(frame, queue)| Step::Returned(frame, queue)),
            frame().prop_map(Step::GiveUp),
            any::<u8>().prop_map(Step::Abandon),
            (0u64..2000).prop_map(Step::Tend),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn no_frame_is_lost_or_doubled_whatever_the_kernel_says(steps in steps()) {
            let mut frames = FrameOwners::new(8);
            let mut now = Instant::ZERO;
            for step in steps {
                match step {
                    Step::Fill(number) => drop(frames.fill(queue(number))),
                    Step::Make => drop(frames.take_free()),
                    Step::Arrived(frame, number) => drop(frames.note_received(frame, queue(number))),
                    Step::Leave(frame, number) => drop(frames.give_to_kernel(frame, queue(number))),
                    Step::Returned(frame, number) => drop(frames.note_returned(frame, queue(number))),
                    Step::GiveUp(frame) => drop(frames.free_taken(frame)),
                    Step::Abandon(number) => frames.rest_frames_of(queue(number)),
                    Step::Tend(millis) => {
                        now += Duration::from_millis(millis);
                        frames.free_rested(now);
                    }
                }
                let with = |place| (0..8).filter(|frame| frames.owners[*frame as usize] == place).collect::<Vec<FrameIndex>>();
                let sorted = |list: &[FrameIndex]| {
                    let mut list = list.to_vec();
                    list.sort_unstable();
                    list
                };
                prop_assert_eq!(sorted(&frames.free), with(Owner::Free));
                prop_assert_eq!(sorted(&frames.resting), with(Owner::Resting));
            }
            // All frames are free again when their owners let go of them.
            (0..8).for_each(|frame| {
                frames.free_taken(frame);
            });
            frames.rest_frames_of(A);
            frames.rest_frames_of(B);
            frames.free_rested(now);
            frames.free_rested(now + RESTING_TIME);
            prop_assert_eq!(frames.free(), 8);
        }
    }

    #[test]
    fn a_frame_goes_round_and_only_its_holder_moves_it() {
        let mut frames = FrameOwners::new(2);
        let frame = frames.fill(A).unwrap();
        assert!(!frames.note_received(frame, B), "another queue received nothing into it");
        assert!(frames.note_received(frame, A));
        assert!(!frames.note_received(frame, A), "once");
        assert_eq!(frames.give_to_kernel(frame, B), Some(A));
        assert!(frames.give_to_kernel(frame, B).is_none() && !frames.free_taken(frame), "it is the kernel's");
        assert!(!frames.note_returned(frame, A) && frames.note_returned(frame, B));
        assert_eq!(frames.take_free(), Some(frame), "still warm");
        assert!(frames.take_free().is_some() && frames.take_free().is_none());
    }

    #[test]
    fn frames_of_a_closed_socket_rest_before_they_are_used_again() {
        let mut frames = FrameOwners::new(2);
        let (_, kept) = (frames.fill(A), frames.fill(B).unwrap());
        frames.rest_frames_of(A);
        frames.free_rested(Instant::ZERO);
        frames.free_rested(Instant::ZERO + Duration::from_millis(999));
        assert_eq!(frames.free(), 0);
        frames.free_rested(Instant::ZERO + RESTING_TIME);
        assert_eq!(frames.free(), 1);
        assert!(frames.note_received(kept, B), "the other socket's frames are its own");
    }
}
