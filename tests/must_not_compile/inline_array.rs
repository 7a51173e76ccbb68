// Nor does an array of bytes qualify, which lies in the value itself.
#![forbid(unsafe_code)]

use std::net::TcpStream;

use sendpath::path::{Mode, SendQueue};

fn send(socket: TcpStream) {
    let _ = SendQueue::copying(socket).try_send([0_u8; 64], Mode::Copy);
}

fn main() {
    drop(send);
}
