// The file in which messages lie is not lent: who writes to it writes under borrowed bytes.
#![forbid(unsafe_code)]

use sendpath::message::Message;

fn main() {
    let (_messages, _offsets, _arena) = Message::in_file(&[vec![64]]).unwrap();
}
