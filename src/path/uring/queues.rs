//! The seam between the senders and `io_uring`: the two queues, so that a test can answer from a
//! script.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use io_uring::squeue::Flags;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::sqpoll::{POLL_IDLE_MS, PollThread};
use super::{Handover, Registered, refused};
use crate::deadlines::UNLOCK_LIMIT;
use crate::path::error::Result;
use crate::pinning;

/// From `<linux/io_uring.h>`: on a notification, says whether the bytes were copied. Since Linux
/// 6.2.
pub(super) const REPORT_USAGE: u16 = 1 << 3;
/// As above: the bytes lie in a registered buffer.
pub(super) const FIXED_BUFFER: u16 = 1 << 2;
/// As above, in the result of a notification.
const NOTIFIED_COPIED: u32 = 1 << 31;
const UNLOCK_PAUSE: Duration = Duration::from_millis(5);

/// One send, as the kernel takes it from the submission queue.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Comes back with the answer and the notification.
    pub number: u64,
    /// Whether the next entry waits for this one, and is cancelled where this one fails or falls
    /// short.
    pub is_linked: bool,
    /// What becomes of the memory.
    pub memory: Memory,
    /// Whether the kernel is to answer where there is no room, instead of going on when there is.
    pub is_impatient: bool,
    /// What to send.
    pub payload: Payload,
}

/// What the kernel does with the memory of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Copies it.
    Copied,
    /// Pins it, and sends it from where it lies.
    Pinned,
    /// As this, and it was pinned when its buffer was registered.
    Registered,
}

/// Which bytes a send takes.
#[derive(Clone, Copy, Debug)]
pub enum Payload {
    /// One range.
    Bytes {
        /// Where it begins.
        start: *const u8,
        /// How long it is.
        bytes: usize,
    },
    /// The ranges of a message header.
    Fields(*const libc::msghdr),
}

/// One entry of the completion queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Of the send that it is about.
    pub number: u64,
    /// What it says.
    pub says: Says,
}

/// What the kernel says of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// The send is made.
    Answer {
        /// Bytes taken, or an errno below zero.
        result: i32,
        /// Whether a notification is to come.
        more: bool,
    },
    /// The kernel has let go of the memory.
    Notification {
        /// Whether it copied after all.
        copied: bool,
    },
}

/// A pair of queues for one socket.
pub trait Queues {
    /// How many entries the submission queue takes now.
    fn room(&mut self) -> usize;

    /// Puts a chain into the submission queue, all of it at once: a polling thread that saw half of
    /// a chain would take the rest for another, and send it at the same time.
    /// [`enter`](Self::enter) hands it over.
    ///
    /// # Safety
    /// There is [`room`](Self::room). What an entry points to stays allocated and unchanged until
    /// its answer is popped, and the bytes of a zero-copy send until its notification is popped,
    /// where one is to come; for good, where these never come, even if the queues are dropped.
    unsafe fn push(&mut self, chain: impl Iterator<Item = Entry>);

    /// Whether a thread of the kernel takes what is pushed, and carries it out beside this one.
    fn is_polled(&self) -> bool {
        false
    }

    /// Hands over what was pushed, and waits for nothing: where no thread [polls](Self::is_polled).
    /// What the kernel carries out at once, which is all but what has to wait for room or for
    /// another send, is answered when this returns.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    fn hand_over(&mut self) -> io::Result<()>;

    /// Hands over what was pushed, and waits until there are `want` completions, at most for
    /// `timeout`. Moves completions that the queue had no room for into it.
    ///
    /// # Errors
    /// The errno of
    /// [`io_uring_enter(2)`](https://man7.org/linux/man-pages/man2/io_uring_enter.2.html). `ETIME`
    /// and `EINTR` are the end of a wait. Where anything was handed over, the call says only that.
    fn enter(&mut self, want: usize, timeout: Duration) -> io::Result<()>;

    /// Takes the next completion, if there is one.
    fn pop(&mut self) -> Option<Completion>;

    /// Whether there are completions that the queue had no room for.
    fn is_overflown(&mut self) -> bool;

    /// CPU time of a kernel thread that works for these queues, in nanoseconds; 0 where there is
    /// none.
    ///
    /// # Errors
    /// The kernel does not tell it.
    fn kernel_thread_ns(&self) -> Result<u64> {
        Ok(0)
    }
}

/// The queues that the kernel serves.
pub struct KernelQueues {
    ring: IoUring,
    socket: Fd,
    is_polled: bool,
    /// Belongs to the thread that first sends, and is disabled until then.
    is_disabled: bool,
    /// Who looks for entries, where somebody does.
    poll_thread: Option<PollThread>,
}

impl KernelQueues {
    /// Makes a ring for so many entries and completions at a time.
    pub(super) fn new(
        socket: RawFd,
        (entries, completions): (usize, usize),
        handover: Handover,
        registered: Option<Registered>,
    ) -> Result<Self> {
        let builder = || {
            let mut builder = IoUring::builder();
            builder.setup_clamp().setup_cqsize(completions.next_power_of_two() as u32);
            builder
        };
        let entries = entries.next_power_of_two() as u32;
        let (built, is_disabled) = match handover {
            Handover::SqPoll => (builder().setup_sqpoll(POLL_IDLE_MS).build(entries), false),
            // A notification is made up when this thread asks for completions. Without this, one
            // would wake the thread wherever it sleeps, say in recv(2): see io_uring_setup(2),
            // IORING_SETUP_DEFER_TASKRUN.
            Handover::Enter => {
                let deferring = builder()
                    .setup_single_issuer()
                    .setup_defer_taskrun()
                    .setup_submit_all()
                    .setup_r_disabled()
                    .build(entries);
                match deferring {
                    // Before Linux 6.1.
                    Err(errno) if errno.raw_os_error() == Some(libc::EINVAL) => {
                        (builder().build(entries), false)
                    }
                    built => (built, true),
                }
            }
        };
        let ring = built.map_err(refused::setup)?;
        if !(ring.params().is_feature_ext_arg() && ring.params().is_feature_nodrop()) {
            return Err(refused::setup(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        if let Some(registered) = registered {
            // SAFETY: the kernel pins the pages of the range, and fails where there are none. It
            // reads of them what entries name, and `push` has the promise for these. A page that is
            // pinned is not given to others.
            let register = || unsafe { ring.submitter().register_buffers(&[registered.iovec()]) };
            until_unlocked(register, registered.bytes as u64)
                .map_err(|errno| refused::registration(errno, registered.bytes))?;
        }
        let is_polled = ring.params().is_setup_sqpoll();
        // A sender whose polling thread is not told sends all the same. Its cost is what cannot be
        // told.
        let poll_thread = is_polled.then(|| PollThread::of_ring(ring.as_raw_fd()).ok()).flatten();
        Ok(Self { ring, socket: Fd(socket), is_polled, is_disabled, poll_thread })
    }

    /// Whether the kernel [stacks](crate::path::ZeroCopyCounts::stacked) notifications. No flag
    /// says so; bundles of sends came in the same release, 6.10.
    pub(super) fn stacks_notifications(&self) -> bool {
        self.ring.params().is_feature_recvsend_bundle()
    }

    /// Makes the ring this thread's.
    #[cold]
    fn enable(&mut self) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()?;
        self.is_disabled = false;
        Ok(())
    }
}

/// Tries again where memory cannot be locked that would fit the limit: a ring that was closed just
/// now has some of it still, since the kernel takes it apart later.
fn until_unlocked(mut register: impl FnMut() -> io::Result<()>, bytes: u64) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match register() {
            Err(errno)
                if errno.raw_os_error() == Some(libc::ENOMEM)
                    && bytes <= pinning::memlock_bytes()
                    && began.elapsed() < UNLOCK_LIMIT =>
            {
                sleep(UNLOCK_PAUSE);
            }
            result => return result,
        }
    }
}

/// The entry in the kernel's own layout.
fn built(socket: Fd, entry: &Entry) -> squeue::Entry {
    // With MSG_WAITALL, what falls short has failed, and the rest of the chain is cancelled; and
    // the kernel goes on by itself when there is room, before it answers.
    let patience = if entry.is_impatient { libc::MSG_DONTWAIT } else { 0 };
    let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL | patience;
    let is_registered = entry.memory == Memory::Registered;
    let fixed = if is_registered { FIXED_BUFFER } else { 0 };
    let built = match (entry.payload, entry.memory != Memory::Copied) {
        (Payload::Bytes { start, bytes }, false) => {
            opcode::Send::new(socket, start, length(bytes)).flags(flags).build()
        }
        (Payload::Fields(header), false) => opcode::SendMsg::new(socket, header).flags(flags as u32).build(),
        (Payload::Bytes { start, bytes }, true) => {
            let send = opcode::SendZc::new(socket, start, length(bytes));
            let index = is_registered.then_some(0);
            send.flags(flags).buf_index(index).zc_flags(REPORT_USAGE).build()
        }
        // The crate has no word for this operation's buffer index (Linux 6.15). It leaves it 0, and
        // 0 is the one buffer that is registered.
        (Payload::Fields(header), true) => {
            opcode::SendMsgZc::new(socket, header).flags(flags as u32).ioprio(REPORT_USAGE | fixed).build()
        }
    };
    let link = if entry.is_linked { Flags::IO_LINK } else { Flags::empty() };
    built.user_data(entry.number).flags(link)
}

/// What one send can take at a time: the kernel takes no more either (`MAX_RW_COUNT`).
fn length(bytes: usize) -> u32 {
    bytes.min(0x7fff_f000) as u32
}

impl Queues for KernelQueues {
    fn room(&mut self) -> usize {
        let queue = self.ring.submission();
        queue.capacity() - queue.len()
    }

    unsafe fn push(&mut self, chain: impl Iterator<Item = Entry>) {
        // The kernel sees the new end of the queue when the borrow ends.
        let mut queue = self.ring.submission();
        for entry in chain {
            // SAFETY: the caller promises what the kernel needs of the memory.
            let pushed = unsafe { queue.push(&built(self.socket, &entry)) };
            debug_assert!(pushed.is_ok(), "there is room");
        }
    }

    fn is_polled(&self) -> bool {
        self.is_polled
    }

    fn hand_over(&mut self) -> io::Result<()> {
        debug_assert!(!self.is_polled, "this does not wake a polling thread");
        if self.is_disabled {
            self.enable()?;
        }
        let pushed = self.ring.submission().len() as u32;
        // SAFETY: the call takes no argument.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(pushed, 0, 0, None) }.map(drop)
    }

    fn enter(&mut self, want: usize, timeout: Duration) -> io::Result<()> {
        if self.is_disabled {
            self.enable()?;
        }
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        let queue = self.ring.submission();
        let pushed = queue.len() as u32;
        let is_asleep = self.is_polled && queue.need_wakeup();
        drop(queue);
        if is_asleep {
            flags |= EnterFlags::SQ_WAKEUP;
        }
        // To look for the answers here would keep the polling thread from a CPU that both share.
        let timeout = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timeout);
        // SAFETY: the flags say what the argument is, and it and its timeout live until the call
        // returns.
        unsafe { self.ring.submitter().enter(pushed, want as u32, flags.bits(), Some(&arguments)) }.map(drop)
    }

    fn pop(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        let (result, flags) = (entry.result(), entry.flags());
        let says = if cqueue::notif(flags) {
            Says::Notification { copied: result.cast_unsigned() & NOTIFIED_COPIED != 0 }
        } else {
            Says::Answer { result, more: cqueue::more(flags) }
        };
        Some(Completion { number: entry.user_data(), says })
    }

    fn kernel_thread_ns(&self) -> Result<u64> {
        match &self.poll_thread {
            Some(thread) => thread.cpu_ns(),
            None if self.is_polled => PollThread::of_ring(self.ring.as_raw_fd())?.cpu_ns(),
            None => Ok(0),
        }
    }

    fn is_overflown(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }
}

impl std::fmt::Debug for KernelQueues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelQueues").field("socket", &self.socket).finish_non_exhaustive()
    }
}
