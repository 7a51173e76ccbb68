//! A server on `epoll` that sends without copying where that pays:
//!
//! ```text
//! cargo run --release --example epoll_server -- 127.0.0.1:4000 1000 FILE...
//! ```
//!
//! It serves the files until a thousand connections have ended. What it answers, and how it sends,
//! is in `connection/mod.rs`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;

mod connection;
pub use connection::{Connection, Documents, Next, Report};

/// How long a connection may take to close at the end. A client that does not read by then is
/// reset.
const CLOSE_LIMIT: Duration = Duration::from_millis(100);

/// The listener's key. Connections have those above it.
const LISTENER: u64 = 0;

/// Serves until so many connections have ended, and closes all others.
///
/// # Errors
/// `epoll` or the listener fails. What happens on one connection ends that one alone.
pub fn serve(listener: TcpListener, documents: Documents, connections: usize) -> io::Result<Report> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut server = Server {
        listener,
        documents,
        epoll,
        open: HashMap::new(),
        next_key: LISTENER + 1,
        report: Report::default(),
    };
    let result = server.run(connections);
    // A queue that is dropped leaks what the kernel may still read, one that is closed waits for
    // it.
    for (_, (connection, _)) in server.open.drain() {
        connection.close(CLOSE_LIMIT, &mut server.report);
    }
    result.map(|()| server.report)
}

struct Server {
    listener: TcpListener,
    documents: Documents,
    epoll: OwnedFd,
    /// Each with what `epoll` is to report of it.
    open: HashMap<u64, (Connection, EventFlags)>,
    next_key: u64,
    report: Report,
}

impl Server {
    fn run(&mut self, connections: usize) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        while self.report.closed < connections {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    key => self.turn(key)?,
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            // The client has gone by now, or somebody else was quicker.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let connection = Connection::new(stream, Arc::clone(&self.documents))?;
        epoll::add(&self.epoll, &connection, EventData::new_u64(self.next_key), EventFlags::IN)?;
        self.open.insert(self.next_key, (connection, EventFlags::IN));
        self.next_key += 1;
        Ok(())
    }

    /// Something happened on a connection.
    fn turn(&mut self, key: u64) -> io::Result<()> {
        let Some((connection, asked)) = self.open.get_mut(&key) else { return Ok(()) };
        // This is level-triggered: only what the connection waits for is asked for, or the rest
        // would be reported again and again. EPOLLERR, for completions, is reported unasked.
        let ask = match connection.turn() {
            Ok(Next::Requests) => EventFlags::IN,
            Ok(Next::Room) => EventFlags::OUT,
            Ok(Next::Completions) => EventFlags::empty(),
            // It may have received all its requests by now, so that nothing is there to be read.
            Ok(Next::Turn) => EventFlags::IN | EventFlags::OUT,
            // Nothing is outstanding; or the connection is down, where all completes at once.
            Ok(Next::Done) | Err(_) => {
                if let Some((connection, _)) = self.open.remove(&key) {
                    connection.close(Duration::ZERO, &mut self.report);
                }
                return Ok(());
            }
        };
        if ask != *asked {
            *asked = ask;
            epoll::modify(&self.epoll, &*connection, EventData::new_u64(key), ask)?;
        }
        Ok(())
    }
}

/// Reads the command line, and serves.
pub fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(Ok(connections))) =
        (arguments.next(), arguments.next().map(|text| text.parse()))
    else {
        eprintln!("usage: epoll_server ADDRESS CONNECTIONS FILE...");
        std::process::exit(2);
    };
    let documents = arguments.map(|file| Ok(fs::read(file)?.into())).collect::<io::Result<Documents>>()?;
    let report = serve(TcpListener::bind(address)?, documents, connections)?;
    println!("{report:?}, {} bytes leaked", sendpath::path::leaked_bytes());
    Ok(())
}
