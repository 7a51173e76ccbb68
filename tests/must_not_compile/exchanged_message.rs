// A message that is lent cannot be exchanged for another: senders have noted where its fields lie.
#![forbid(unsafe_code)]

use std::net::TcpStream;

use sendpath::case::Layout;
use sendpath::message::Message;
use sendpath::path::{MessageSender, SendMessage};

fn exchange(socket: TcpStream) -> sendpath::Result<()> {
    let mut mine = Message::new(8192, Layout::Heap);
    let mut sender = MessageSender::hybrid(socket, vec![Message::new(8192, Layout::Heap)], 4096);
    std::mem::swap(&mut *sender.message()?, &mut mine);
    drop(mine);
    sender.send()
}

fn main() {
    drop(exchange);
}
