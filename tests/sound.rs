//! What no safe program can do with the library: have a sender send, or give back, memory of
//! another owner.

use std::io::Read;
use std::net::{TcpListener, TcpStream};

use sendpath::case::Layout;
use sendpath::message::Message;
use sendpath::path::{FileSender, SendMessage, SpliceSender};

/// Most of it is no program: it does not compile. The compiler's words are of the paths alone,
/// without the command.
#[cfg(not(feature = "cli"))]
#[test]
fn programs_that_would_break_memory_do_not_compile() {
    let programs = trybuild::TestCases::new();
    programs.compile_fail("tests/must_not_compile/*.rs");
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    (listener.accept().expect("the connection").0, client)
}

/// A peer that says that it has what it has not: `splice` and `sendfile` have nobody else to ask.
/// The sender is dropped with its bytes in the socket, and what is allocated next holds something
/// else.
fn lied_to(sender: impl SendMessage, mut client: TcpStream) {
    const BYTES: usize = 8 * 4000;
    let mut sender = sender;
    (0..8).for_each(|field| sender.message().expect("a message").field_mut(field).fill(b'.'));
    sender.send().expect("room");
    sender.received(u64::MAX);
    drop(sender);
    let others: Vec<Vec<u8>> =
        (0..64).map(|_| b"PASSWORD".iter().copied().cycle().take(4000).collect()).collect();
    let mut received = vec![0; BYTES];
    client.read_exact(&mut received).expect("the message");
    let foreign = received.iter().filter(|&&byte| byte != b'.').count();
    assert_eq!(foreign, 0, "of {BYTES} bytes; {} others", others.len());
}

#[test]
fn a_peer_that_lies_about_what_it_has_gets_no_memory_of_another_owner() {
    for layout in [Layout::Heap, Layout::Page] {
        let (server, client) = connected();
        lied_to(SpliceSender::new(server, &[vec![4000; 8]], layout).expect("a pipe"), client);
        let (server, client) = connected();
        lied_to(FileSender::new(server, &[vec![4000; 8]]).expect("a file"), client);
    }
}

#[test]
fn lengths_that_no_memory_has_are_an_error() {
    let wrapping = vec![1 << 62, 1 << 62, 1 << 62, 1 << 62, 65536];
    for layout in [Layout::Heap, Layout::Page, Layout::Huge] {
        assert!(Message::in_arena(std::slice::from_ref(&wrapping), layout).is_err(), "{layout}");
        assert!(
            SpliceSender::new(connected().0, std::slice::from_ref(&wrapping), layout).is_err(),
            "{layout}"
        );
    }
    assert!(FileSender::new(connected().0, &[wrapping]).is_err());
}

/// The same lie while the sender lives: it lends the message again, and what arrives are its own
/// later bytes.
#[test]
fn a_peer_that_lies_gets_later_bytes_of_the_same_sender() {
    let (server, mut client) = connected();
    let mut sender = SpliceSender::new(server, &[vec![65536]], Layout::Page).expect("a pipe");
    sender.message().expect("a message").field_mut(0).fill(1);
    sender.send().expect("room");
    sender.received(1);
    sender.message().expect("it was believed").field_mut(0).fill(2);
    let mut received = vec![0; 65536];
    client.read_exact(&mut received).expect("the message");
    assert!(received.iter().all(|&byte| byte == 1 || byte == 2));
}
