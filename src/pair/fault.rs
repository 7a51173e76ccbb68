//! Faults that are planted on purpose, to show that the two processes notice. A fault wraps a path,
//! so that a run without one carries nothing of it.

use std::net::TcpStream;
use std::panic::resume_unwind;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::monotonic_ns;
use crate::message::{MessageMut, Received};
use crate::path::error::{Error, Result};
use crate::path::{Observe, ReceiveMessage, SendMessage, Socket};
use crate::sample::{Copies, Side, ZeroCopyCounts};

/// What goes wrong, on which end of which pair, and at which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The end.
    pub side: Side,
    /// The pair, from 0.
    pub pair: usize,
    /// The message, from 0.
    pub at_message: u64,
    /// What happens.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The thread panics.
    Panic,
    /// One byte in the middle of the message is not what it should be. The server's to plant.
    Corrupt,
    /// The connection is reset.
    Reset,
    /// Not a fault but a cost: from this message on, each takes so much longer to send, by
    /// spinning. The server's to plant.
    Slow {
        /// How much longer, in nanoseconds.
        spin_ns: u64,
    },
    /// Not a fault but a cost: what a path needs after the last message takes so much longer, by
    /// spinning. The server's to plant.
    SlowDrain {
        /// How much longer, in nanoseconds.
        spin_ns: u64,
    },
}

impl FaultKind {
    fn spin(self) -> Result<()> {
        if let Self::Slow { spin_ns } = self { spin(spin_ns) } else { Ok(()) }
    }

    /// What the spin costs, in nanoseconds: the mean of `times`. More than was asked for, since it
    /// reads the clock.
    #[doc(hidden)]
    #[must_use]
    pub fn cost_ns(self, times: u32) -> f64 {
        let started = std::time::Instant::now();
        for _ in 0..times {
            drop(self.spin());
        }
        started.elapsed().as_nanos() as f64 / f64::from(times)
    }
}

impl Fault {
    pub(super) fn is_at(self, side: Side, pair: usize) -> bool {
        self.side == side && self.pair == pair
    }

    fn strike(self, connection: &TcpStream) -> Result<()> {
        match self.kind {
            // As a panic unwinds, without the hook's lines on stderr.
            FaultKind::Panic => resume_unwind(Box::new(format!("planted in message {}", self.at_message))),
            FaultKind::Corrupt | FaultKind::Slow { .. } | FaultKind::SlowDrain { .. } => Ok(()),
            FaultKind::Reset => connection.reset().map_err(Error::call("connect(2) AF_UNSPEC")),
        }
    }
}

/// Wraps a path's half.
pub(super) struct Faulty<P: ?Sized> {
    pub(super) inner: Box<P>,
    pub(super) connection: Arc<TcpStream>,
    pub(super) fault: Fault,
    pub(super) message: u64,
}

impl SendMessage for Faulty<dyn Observe> {
    fn message(&mut self) -> Result<MessageMut<'_>> {
        self.inner.message()
    }

    fn send(&mut self) -> Result<()> {
        if self.message == self.fault.at_message {
            self.fault.strike(&self.connection)?;
            if self.fault.kind == FaultKind::Corrupt {
                let mut message = self.inner.message()?;
                let middle = (message.fields() - 1) / 2;
                let field = message.field_mut(middle);
                let middle = field.len() / 2;
                field[middle] ^= 0xff;
            }
        }
        if self.message >= self.fault.at_message {
            self.fault.kind.spin()?;
        }
        self.message += 1;
        self.inner.send()
    }

    fn submit(&mut self) -> Result<()> {
        self.inner.submit()
    }

    fn received(&mut self, messages: u64) {
        self.inner.received(messages);
    }

    fn flush(&mut self) -> Result<()> {
        if let FaultKind::SlowDrain { spin_ns } = self.fault.kind {
            spin(spin_ns)?;
        }
        self.inner.flush()
    }
}

impl Observe for Faulty<dyn Observe> {
    fn prepare(&mut self, write: &mut dyn FnMut(MessageMut<'_>)) -> Result<()> {
        self.inner.prepare(write)
    }

    fn overwrite(&mut self) -> Result<bool> {
        self.inner.overwrite()
    }

    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts> {
        self.inner.zero_copy_counts()
    }

    fn copies(&self) -> Copies {
        self.inner.copies()
    }

    fn kernel_thread_ns(&self) -> Result<u64> {
        self.inner.kernel_thread_ns()
    }
}

impl ReceiveMessage for Faulty<dyn ReceiveMessage> {
    fn receive(&mut self) -> Result<()> {
        if self.message == self.fault.at_message {
            self.fault.strike(&self.connection)?;
        }
        self.message += 1;
        self.inner.receive()
    }

    fn last(&self) -> Received<'_> {
        self.inner.last()
    }

    fn copies(&self) -> Copies {
        self.inner.copies()
    }
}

fn spin(spin_ns: u64) -> Result<()> {
    let until_ns = monotonic_ns()? + spin_ns;
    while monotonic_ns()? < until_ns {
        std::hint::spin_loop();
    }
    Ok(())
}
