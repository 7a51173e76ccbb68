//! A server on tokio that sends without copying where that pays:
//!
//! ```text
//! cargo run --release --example tokio_server -- 127.0.0.1:4000 1000 FILE...
//! ```
//!
//! It serves the files until a thousand connections have ended. What it answers, and how it sends,
//! is in `connection/mod.rs`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};

mod connection;
pub use connection::{Connection, Documents, Next, Report};

/// How long a connection may take to close at the end. A client that does not read by then is
/// reset.
const CLOSE_LIMIT: Duration = Duration::from_millis(100);

/// Serves until so many connections have ended, and closes all others.
///
/// # Errors
/// The listener fails. What happens on one connection ends that one alone.
pub async fn serve(listener: TcpListener, documents: Documents, connections: usize) -> io::Result<Report> {
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut report = Report::default();
    let result = loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = accepted.and_then(|(stream, _)| stream.into_std());
                match stream.and_then(|stream| Connection::new(stream, Arc::clone(&documents))) {
                    Ok(connection) => drop(tasks.spawn(serve_one(connection, stopped.clone()))),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => break Err(error),
                }
            }
            Some(Ok(connection)) = tasks.join_next() => {
                // Nothing is outstanding; or the connection is down, where all completes at once.
                connection.close(Duration::ZERO, &mut report);
                if report.closed >= connections {
                    break Ok(());
                }
            }
        }
    };
    // A task that is aborted drops its queue, which leaks what the kernel may still read. One that
    // is told to stop gives it back, and `close` waits for the completions. It blocks the thread,
    // which has nothing else to do by then.
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        if let Ok(connection) = ended {
            connection.close(CLOSE_LIMIT, &mut report);
        }
    }
    result.map(|()| report)
}

/// Serves one client until it goes, or the server stops.
async fn serve_one(mut connection: Connection, mut stopped: watch::Receiver<bool>) -> Connection {
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => {}
        _ = answer(&mut connection) => {}
    }
    connection
}

async fn answer(connection: &mut Connection) -> io::Result<()> {
    let descriptor = connection.as_fd().as_raw_fd();
    let register = || {
        let all = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        // SAFETY: the connection is borrowed until this function ends, so its descriptor stays open
        // for longer than the registration lives.
        unsafe { AsyncFd::register_with_interest(descriptor, all) }
    };
    let mut registered = register()?;
    loop {
        // Completions are an error to tokio. `ready` returns on any of what it is asked for.
        let interest = match connection.turn()? {
            Next::Requests => Interest::READABLE | Interest::ERROR,
            Next::Room => Interest::WRITABLE | Interest::ERROR,
            Next::Completions => Interest::ERROR,
            Next::Turn => {
                yield_now().await;
                continue;
            }
            Next::Done => return Ok(()),
        };
        let mut guard = registered.ready(interest).await?;
        let is_write_closed = guard.ready().is_write_closed();
        // Before the turn: what happens from here on is reported again.
        guard.clear_ready();
        // EPOLLERR means to mio that the peer is gone if it comes alone or with EPOLLOUT, and tokio
        // never forgets that: each later wait for room would end at once. A new registration does
        // not know of it.
        if is_write_closed {
            drop(registered);
            registered = register()?;
        }
    }
}

/// Reads the command line, and serves.
pub fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(Ok(connections))) =
        (arguments.next(), arguments.next().map(|text| text.parse()))
    else {
        eprintln!("usage: tokio_server ADDRESS CONNECTIONS FILE...");
        std::process::exit(2);
    };
    let documents = arguments.map(|file| Ok(fs::read(file)?.into())).collect::<io::Result<Documents>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let report =
        runtime.block_on(async { serve(TcpListener::bind(address).await?, documents, connections).await })?;
    println!("{report:?}, {} bytes leaked", sendpath::path::leaked_bytes());
    Ok(())
}
