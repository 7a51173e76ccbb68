//! The servers of `examples/` under load: 256 connections, of which some stop reading and one
//! resets, and each byte of every message compared.
//!
//! `SENDPATH_TEST_MESSAGES=1000000` asks for more messages.

#![expect(clippy::duplicate_mod, reason = "each example is a program of its own, and both are tested here")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sendpath::path::leaked_bytes;

#[expect(dead_code, reason = "its main reads a command line")]
#[path = "../examples/epoll_server.rs"]
mod epoll_server;
#[expect(dead_code, reason = "its main reads a command line")]
#[path = "../examples/tokio_server.rs"]
mod tokio_server;

const CONNECTIONS: usize = 256;
/// Those that stop reading. Together they hold more than an ordinary user may pin (8 MiB), so that
/// the others are served by copying.
const STALLED: usize = 12;
/// The others, but for one that resets.
const WELL_BEHAVED: usize = CONNECTIONS - STALLED - 1;
/// So many requests are made at a time.
const BATCH: usize = 32;
const HEADER_BYTES: usize = 16;

/// Most are packed, some are gathered; the others are the 64 KiB that both servers send with
/// `MSG_ZEROCOPY`.
const LARGE: u32 = 31;
const LARGE_BYTES: usize = 65536;

type Documents = Arc<[Arc<[u8]>]>;

/// One server at a time: how much may be pinned is counted for the user, not for the test.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// 32 documents that have no byte in common but by chance.
fn documents() -> Documents {
    let mut state = 1_u64;
    let mut document = |bytes: usize| -> Arc<[u8]> {
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| byte()).collect()
    };
    let small = (0..LARGE as usize).map(|number| 200 + number * number * 20).collect::<Vec<_>>();
    small.into_iter().chain([LARGE_BYTES]).map(&mut document).collect()
}

fn messages() -> u64 {
    let asked = std::env::var("SENDPATH_TEST_MESSAGES").ok();
    asked.map_or(100_000, |text| text.parse().expect("a number of messages"))
}

/// One client: what it sent and received so far.
struct Client {
    stream: TcpStream,
    documents: Documents,
    messages: u64,
    received: Vec<u8>,
}

impl Client {
    fn connect(server: SocketAddr, documents: &Documents) -> Self {
        let stream = TcpStream::connect(server).expect("the server listens");
        stream.set_nodelay(true).expect("an option of every connection");
        // A server that serves nobody any more is found out, rather than awaited.
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("an option of every socket");
        let received = vec![0; HEADER_BYTES + LARGE_BYTES];
        Self { stream, documents: Arc::clone(documents), messages: 0, received }
    }

    fn request(&mut self, numbers: &[u32]) {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        self.stream.write_all(&bytes).expect("the server reads requests");
    }

    /// Reads the reply to a request, and compares each byte.
    fn read_reply(&mut self, number: u32) -> io::Result<()> {
        let document = &self.documents[number as usize];
        let reply = &mut self.received[..HEADER_BYTES + document.len()];
        self.stream.read_exact(reply)?;
        let (header, body) = reply.split_at(HEADER_BYTES);
        let header_due = [(document.len() as u64).to_le_bytes(), self.messages.to_le_bytes()].concat();
        assert_eq!(header, header_due, "the header of message {}", self.messages);
        assert!(body == &document[..], "the body of message {}, document {number}", self.messages);
        self.messages += 1;
        Ok(())
    }

    /// So many messages, in batches; which documents, `offset` says.
    fn exchange(&mut self, messages: u64, offset: u32) {
        let numbers =
            (offset..).map(|number| number % (LARGE + 1)).take(messages as usize).collect::<Vec<_>>();
        for batch in numbers.chunks(BATCH) {
            self.request(batch);
            for &number in batch {
                self.read_reply(number).expect("the server replies");
            }
        }
    }

    /// Asks for more than the server may have in flight, and waits until the first of it is here.
    fn ask_for_much(&mut self) {
        self.request(&[LARGE; 256]);
        self.read_reply(LARGE).expect("the server replies");
    }
}

/// What a server reports.
struct Outcome {
    closed: usize,
    replies: [u64; 3],
    copied_instead: u64,
    most_pinned_bytes: usize,
    outstanding: usize,
    leaked: usize,
}

/// Runs the clients against a server, which is to end when all have gone but those that stopped
/// reading.
fn check(serve: impl FnOnce(TcpListener, Documents) -> Outcome + Send) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let leaked_before = leaked_bytes();
    let documents = documents();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("it is bound");
    let each = messages().div_ceil(WELL_BEHAVED as u64);
    // In the middle some clients stop reading, and one resets; the others go on when they have.
    let middle = Barrier::new(CONNECTIONS);
    let (middle, documents) = (&middle, &documents);

    let (outcome, stalled) = thread::scope(|scope| {
        let server = scope.spawn(|| serve(listener, Arc::clone(documents)));
        let stalled = [(); STALLED].map(|()| {
            scope.spawn(move || {
                let mut client = Client::connect(address, documents);
                client.exchange(each / 2, 0);
                middle.wait();
                client.ask_for_much();
                middle.wait();
                client
            })
        });
        scope.spawn(move || {
            let mut client = Client::connect(address, documents);
            client.exchange(each / 2, 0);
            middle.wait();
            client.ask_for_much();
            // The kernel answers what comes from here on with a reset.
            drop(client);
            middle.wait();
        });
        for offset in 0..WELL_BEHAVED as u32 {
            scope.spawn(move || {
                let mut client = Client::connect(address, documents);
                client.exchange(each / 2, offset);
                middle.wait();
                middle.wait();
                client.exchange(each - each / 2, offset);
                assert_eq!(client.messages, each);
            });
        }
        let outcome = server.join().expect("the server ends");
        (outcome, stalled.map(|client| client.join().expect("a client ends")))
    });

    let Outcome { closed, replies, copied_instead, most_pinned_bytes, outstanding, leaked } = outcome;
    println!(
        "{replies:?} replies packed, gathered and zero-copy; {copied_instead} copied since they could not be pinned; \
         at most {most_pinned_bytes} bytes pinned by one; {outstanding} outstanding at the end"
    );
    assert_eq!(closed, CONNECTIONS);
    assert!(replies.iter().sum::<u64>() >= each * WELL_BEHAVED as u64, "{replies:?}");
    assert!(replies.iter().all(|&replies| replies > 0), "{replies:?}");
    assert!(most_pinned_bytes <= 1 << 20, "{most_pinned_bytes}");
    assert_eq!((leaked, leaked_bytes()), (0, leaked_before), "nothing is pinned after close");

    // What those that stopped reading get yet is right, and not all of it. Where the kernel held
    // something, `close` has reset the connection.
    let mut resets = 0;
    for mut client in stalled {
        let end = loop {
            if let Err(error) = client.read_reply(LARGE) {
                break error.kind();
            }
        };
        assert!(client.messages < each / 2 + 256, "{}", client.messages);
        assert!(matches!(end, io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof), "{end}");
        resets += usize::from(end == io::ErrorKind::ConnectionReset);
    }
    assert!(outstanding > 0 && resets > 0, "{outstanding} outstanding, {resets} resets");
}

macro_rules! outcome {
    ($server:ident, $report:expr) => {{
        let $server::Report { closed, replies, copied_instead, most_pinned_bytes, outstanding, leaked } =
            $report;
        Outcome { closed, replies, copied_instead, most_pinned_bytes, outstanding, leaked }
    }};
}

#[test]
fn the_epoll_server_serves_all_beside_some_that_stop_reading_and_one_that_resets() {
    check(|listener, documents| {
        let report = epoll_server::serve(listener, documents, CONNECTIONS - STALLED).expect("it serves");
        outcome!(epoll_server, report)
    });
}

#[test]
fn the_tokio_server_serves_all_beside_some_that_stop_reading_and_one_that_resets() {
    check(|listener, documents| {
        listener.set_nonblocking(true).expect("an option of every socket");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let report = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio_server::serve(listener, documents, CONNECTIONS - STALLED).await
        });
        outcome!(tokio_server, report.expect("it serves"))
    });
}
