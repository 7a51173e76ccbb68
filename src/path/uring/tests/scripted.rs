//! Queues that answer from a script: the sends go to the wire of a [`Script`], which also says what
//! each may move.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::queues::{Completion, Entry, Memory, Payload, Queues, Says};
use crate::path::Socket;
use crate::path::tests::script::Script;

/// When the notification of a zero-copy send comes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Notify {
    /// Right after its answer.
    #[default]
    AtOnce,
    /// Right before its answer.
    Before,
    /// With the next call that hands nothing over: all that are due, the last first.
    Late,
    /// Only when the test says so.
    Never,
}

#[derive(Debug)]
struct State {
    script: Script,
    submitted: VecDeque<Entry>,
    capacity: usize,
    /// So often there is no room, whatever was taken.
    full_for: usize,
    /// The kernel took these, and has not carried them out.
    stuck: Vec<Entry>,
    is_stuck: bool,
    completions: VecDeque<Completion>,
    completion_capacity: usize,
    overflow: VecDeque<Completion>,
    overflown: usize,
    notify: Notify,
    due: Vec<u64>,
    /// Zero-copy sends put on the wire when they are notified, from what the memory holds by then.
    reads_late: Option<Vec<Entry>>,
    ignores_links: bool,
    /// A thread takes what is pushed, and is through with it when it is waited for.
    is_polled: bool,
    errors: VecDeque<i32>,
    unprepared: VecDeque<(usize, i32)>,
    entered: usize,
    chains: Vec<Vec<Entry>>,
}

// SAFETY: the pointers in entries lead to memory that the sender keeps as long as they are not
// notified.
unsafe impl Send for State {}

/// The scripted queues. Clones share the script.
#[derive(Clone, Debug)]
pub struct ScriptedQueues(Arc<Mutex<State>>);

impl ScriptedQueues {
    pub fn new(script: &Script) -> Self {
        Self(Arc::new(Mutex::new(State {
            script: script.clone(),
            submitted: VecDeque::new(),
            capacity: 64,
            full_for: 0,
            stuck: Vec::new(),
            is_stuck: false,
            completions: VecDeque::new(),
            completion_capacity: 1024,
            overflow: VecDeque::new(),
            overflown: 0,
            notify: Notify::AtOnce,
            due: Vec::new(),
            reads_late: None,
            ignores_links: false,
            is_polled: false,
            errors: VecDeque::new(),
            unprepared: VecDeque::new(),
            entered: 0,
            chains: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn notify(&self, notify: Notify) {
        self.state().notify = notify;
    }

    /// Posts the notifications of these sends.
    pub fn notify_now(&self, numbers: impl IntoIterator<Item = u64>, copied: bool) {
        let mut state = self.state();
        for number in numbers {
            state.due.retain(|&due| due != number);
            state.post_notification(number, copied);
        }
    }

    /// Sends that are taken are not carried out, as where a buffer is full, until this is called
    /// with false.
    pub fn stick(&self, is_stuck: bool) {
        let mut state = self.state();
        state.is_stuck = is_stuck;
        if !is_stuck {
            let stuck = std::mem::take(&mut state.stuck);
            state.carry_out(&stuck);
        }
    }

    pub fn shrink(&self, entries: usize, completions: usize) {
        let mut state = self.state();
        (state.capacity, state.completion_capacity) = (entries, completions);
    }

    pub fn fill_for(&self, times: usize) {
        self.state().full_for = times;
    }

    pub fn read_late(&self) {
        self.state().reads_late = Some(Vec::new());
    }

    pub fn ignore_links(&self) {
        self.state().ignores_links = true;
    }

    pub fn poll(&self) {
        self.state().is_polled = true;
    }

    /// The next calls fail, and take nothing.
    pub fn fail(&self, errors: impl IntoIterator<Item = i32>) {
        self.state().errors.extend(errors);
    }

    /// Of the next chains, this entry of each cannot be prepared, which cancels the others.
    pub fn refuse(&self, entries: impl IntoIterator<Item = (usize, i32)>) {
        self.state().unprepared.extend(entries);
    }

    pub fn entered(&self) -> usize {
        self.state().entered
    }

    /// How many completions found the queue full.
    pub fn overflown(&self) -> usize {
        self.state().overflown
    }

    /// What was handed over, call by call.
    pub fn chains(&self) -> Vec<Vec<Entry>> {
        self.state().chains.clone()
    }
}

impl State {
    /// Takes what was pushed. Returns how much.
    fn hand_over(&mut self) -> io::Result<usize> {
        self.entered += 1;
        if let Some(errno) = self.errors.pop_front() {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let taken: Vec<Entry> = self.submitted.drain(..).collect();
        if self.is_stuck {
            self.stuck.extend(&taken);
        } else {
            self.carry_out(&taken);
        }
        Ok(taken.len())
    }

    fn carry_out(&mut self, chain: &[Entry]) {
        let mut is_broken = false;
        let unprepared = self.unprepared.pop_front();
        for (place, entry) in chain.iter().enumerate() {
            let is_zero_copy = entry.memory != Memory::Copied;
            let bytes = bytes(entry);
            let result = if let Some((refused, errno)) = unprepared {
                if place == refused { -errno } else { -libc::ECANCELED }
            } else if is_broken && !self.ignores_links {
                -libc::ECANCELED
            } else {
                match self.script.send_vectored(&[IoSlice::new(&bytes)]) {
                    Ok(moved) => i32::try_from(moved).unwrap(),
                    Err(errno) => -errno.raw_os_error().unwrap(),
                }
            };
            let is_whole = usize::try_from(result).is_ok_and(|moved| moved == bytes.len());
            is_broken |= !is_whole;
            let answer = |more| Completion { number: entry.number, says: Says::Answer { result, more } };
            if !is_zero_copy {
                self.post(answer(false));
            } else if result == -libc::ECANCELED {
                // As Linux 6.18 does it: not announced, and notified all the same.
                self.post(answer(false));
                self.post_notification(entry.number, true);
            } else {
                if let Some(late) = &mut self.reads_late {
                    late.push(*entry);
                }
                match self.notify {
                    Notify::Before => {
                        self.post_notification(entry.number, true);
                        self.post(answer(true));
                    }
                    Notify::AtOnce => {
                        self.post(answer(true));
                        self.post_notification(entry.number, true);
                    }
                    Notify::Late | Notify::Never => {
                        self.post(answer(true));
                        self.due.push(entry.number);
                    }
                }
            }
        }
    }

    fn post_notification(&mut self, number: u64, copied: bool) {
        if let Some(late) = &mut self.reads_late
            && let Some(place) = late.iter().position(|entry| entry.number == number)
        {
            let entry = late.swap_remove(place);
            self.script.send_vectored(&[IoSlice::new(&bytes(&entry))]).unwrap();
        }
        self.post(Completion { number, says: Says::Notification { copied } });
    }

    fn post(&mut self, completion: Completion) {
        if self.completions.len() == self.completion_capacity || !self.overflow.is_empty() {
            self.overflow.push_back(completion);
            self.overflown += 1;
        } else {
            self.completions.push_back(completion);
        }
    }
}

/// The bytes that an entry sends.
fn bytes(entry: &Entry) -> Vec<u8> {
    // SAFETY: `push` was promised that the memory stays as long as the send is open, and only such
    // are read.
    let range = |start: *const u8, bytes| unsafe { std::slice::from_raw_parts(start, bytes) }.to_vec();
    match entry.payload {
        Payload::Bytes { start, bytes } => range(start, bytes),
        Payload::Fields(header) => {
            // SAFETY: as above: the header, and the slices that it leads to.
            let slices = unsafe {
                let header = &*header;
                std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen as _)
            };
            slices.iter().flat_map(|slice| range(slice.iov_base.cast_const().cast(), slice.iov_len)).collect()
        }
    }
}

impl Queues for ScriptedQueues {
    fn room(&mut self) -> usize {
        let mut state = self.state();
        if state.full_for > 0 {
            state.full_for -= 1;
            return 0;
        }
        state.capacity - state.submitted.len()
    }

    unsafe fn push(&mut self, chain: impl Iterator<Item = Entry>) {
        let chain: Vec<Entry> = chain.collect();
        let mut state = self.state();
        assert!(chain.len() <= state.capacity - state.submitted.len(), "there is room");
        let (last, before) = chain.split_last().expect("a chain has entries");
        assert!(!last.is_linked && before.iter().all(|entry| entry.is_linked), "one chain");
        state.submitted.extend(&chain);
        state.chains.push(chain);
    }

    fn is_polled(&self) -> bool {
        self.state().is_polled
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let mut state = self.state();
        if state.is_polled {
            return Ok(());
        }
        state.hand_over().map(drop)
    }

    fn enter(&mut self, want: usize, _timeout: Duration) -> io::Result<()> {
        let mut state = self.state();
        while state.completions.len() < state.completion_capacity
            && let Some(completion) = state.overflow.pop_front()
        {
            state.completions.push_back(completion);
        }
        let taken = state.hand_over()?;
        if taken == 0 && state.notify == Notify::Late {
            for number in std::mem::take(&mut state.due).into_iter().rev() {
                state.post_notification(number, true);
            }
        }
        if taken == 0 && state.completions.len() < want {
            return Err(io::Error::from_raw_os_error(libc::ETIME));
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<Completion> {
        self.state().completions.pop_front()
    }

    fn is_overflown(&mut self) -> bool {
        !self.state().overflow.is_empty()
    }
}
