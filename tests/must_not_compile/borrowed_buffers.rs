// Nor do borrowed bytes, whose owner may write to them when the loan ends.
#![forbid(unsafe_code)]

use std::net::TcpStream;

use sendpath::path::{Mode, SendQueue};

fn send<'a>(queue: &mut SendQueue<&'a [u8], TcpStream>, bytes: &'a [u8]) {
    let _ = queue.try_send(bytes, Mode::ZeroCopy);
}

fn main() {
    drop(send);
}
