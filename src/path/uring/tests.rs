//! The sender over scripted queues, and over the kernel's.

mod scripted;

use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;

use self::scripted::{Notify, ScriptedQueues};
use super::*;
use crate::case::Layout;
use crate::message::field_bytes;
use crate::path::socket::sealed::Sealed;
use crate::path::tests::script::{self, PAYLOAD_BYTES, Script, Step, message_bytes};
use crate::path::{MessageReceiver, Readiness, ReceiveMessage};

/// The scripted queues do not ask where the registered memory is.
fn operations() -> [Operation; 4] {
    let everywhere = Registered { start: std::ptr::null(), bytes: usize::MAX };
    [Operation::Send, Operation::SendMsg, Operation::SendMsgZc, Operation::Fixed(everywhere)]
}

/// The two that have notifications.
fn zero_copy() -> [Operation; 2] {
    [operations()[2], operations()[3]]
}

fn expected(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    numbers.into_iter().flat_map(|number| message_bytes(number).1).collect()
}

type Scripted = UringSender<Script, ScriptedQueues>;

/// A sender of `messages`, which hold the numbers from 0 on.
fn scripted(operation: Operation, messages: u64) -> (Scripted, Script, ScriptedQueues) {
    let script = Script::default();
    let queues = ScriptedQueues::new(&script);
    let messages = (0..messages).map(|number| message_bytes(number).0).collect();
    (sender(script.clone(), queues.clone(), messages, operation), script, queues)
}

fn sender(script: Script, queues: ScriptedQueues, messages: Vec<Message>, operation: Operation) -> Scripted {
    let mut sender = UringSender::with_queues(script, Ring::new(messages), operation, queues).unwrap();
    sender.wait_limit = Duration::from_millis(200);
    sender
}

/// Gathers the next `messages`, as they were written.
fn gather(sender: &mut Scripted, messages: usize) {
    for _ in 0..messages {
        sender.message().unwrap();
        sender.send().unwrap();
    }
}

fn lend(sender: &mut Scripted) -> usize {
    sender.message().unwrap().field(0).as_ptr().addr()
}

fn counts(sender: &Scripted) -> ZeroCopyCounts {
    sender.zero_copy_counts().unwrap()
}

fn over_queues(operation: Operation) -> impl Fn(Script, Vec<Message>) -> Box<dyn Observe> {
    move |script: Script, messages| {
        let queues = ScriptedQueues::new(&script);
        let sender = UringSender::with_queues(script, Ring::new(messages), operation, queues).unwrap();
        Box::new(sender)
    }
}

#[test]
fn a_short_send_at_any_byte_goes_on_where_it_stopped() {
    for operation in operations() {
        script::interrupt_at_every_byte(over_queues(operation));
    }
}

#[test]
fn messages_are_sent_in_the_order_of_the_ring() {
    for operation in operations() {
        script::send_in_turn(over_queues(operation));
    }
}

#[test]
fn a_socket_that_never_gets_ready_is_given_up() {
    for operation in operations() {
        script::give_up_waiting(over_queues(operation));
    }
}

#[test]
fn a_chain_that_breaks_at_any_byte_goes_on_where_it_broke() {
    const MESSAGES: usize = 4;
    let errnos = [None, Some(libc::EINTR), Some(libc::EAGAIN)];
    for operation in operations() {
        for split in 0..MESSAGES * PAYLOAD_BYTES {
            for errno in errnos {
                for notify in [Notify::AtOnce, Notify::Before, Notify::Late] {
                    let (mut sender, script, queues) = scripted(operation, MESSAGES as u64);
                    queues.notify(notify);
                    // Whole sends, one that falls short, and what then stands in the way of the
                    // rest.
                    script.expect(vec![Step::Move(PAYLOAD_BYTES); split / PAYLOAD_BYTES]);
                    if split % PAYLOAD_BYTES > 0 {
                        script.expect([Step::Move(split % PAYLOAD_BYTES)]);
                    }
                    script.expect(errno.map(Step::Errno));
                    script.expect([Step::Move(1), Step::Move(2)]);
                    for _ in 0..2 {
                        gather(&mut sender, MESSAGES);
                        sender.submit().unwrap();
                    }
                    sender.flush().unwrap();
                    let numbers = (0..MESSAGES as u64).chain(0..MESSAGES as u64);
                    assert!(script.wire() == expected(numbers), "{operation:?}, {split}, {errno:?}");
                    let blocked = usize::from(errno == Some(libc::EAGAIN));
                    assert_eq!(script.writable_waits(), blocked, "{operation:?}, {split}, {errno:?}");
                    let total_bytes = (2 * MESSAGES * PAYLOAD_BYTES) as u64;
                    if let Some(counts) = sender.zero_copy_counts() {
                        assert_eq!((counts.sends, counts.sent_bytes), (counts.completions, total_bytes));
                        assert_eq!(counts.copied_share(), Some(1.0));
                        assert_eq!(sender.copies().deferred_bytes, total_bytes);
                    } else {
                        assert_eq!(sender.copies().user_to_kernel_bytes, total_bytes);
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_gathered_is_handed_over_as_one_chain_with_one_call() {
    for operation in operations() {
        let (mut sender, script, queues) = scripted(operation, 40);
        gather(&mut sender, 5);
        assert_eq!((queues.entered(), script.wire().len()), (0, 0));
        sender.submit().unwrap();
        assert_eq!(queues.entered(), 1);
        sender.submit().unwrap();
        assert_eq!(queues.entered(), 1, "nothing is gathered");
        gather(&mut sender, MOST_GATHERED);
        assert_eq!(queues.entered(), 2, "by itself where the batch is full");
        let lengths: Vec<_> = queues.chains().iter().map(Vec::len).collect();
        assert_eq!(lengths, [5, MOST_GATHERED]);
        assert!(script.wire() == expected(0..37));
    }
}

#[test]
fn large_messages_are_not_gathered() {
    let script = Script::default();
    let queues = ScriptedQueues::new(&script);
    let messages = (0..8).map(|_| Message::new(GATHERED_BYTES / 2, Layout::Heap)).collect();
    let mut sender = sender(script.clone(), queues.clone(), messages, Operation::Send);
    gather(&mut sender, 8);
    assert_eq!(queues.chains().iter().map(Vec::len).collect::<Vec<_>>(), [2; 4]);
    assert_eq!(script.wire().len(), 8 * GATHERED_BYTES / 2);
}

#[test]
fn a_gathered_message_is_handed_over_before_it_is_lent_again() {
    for operation in operations() {
        let (sender, script, _) = scripted(operation, 3);
        let mut sender = sender.with_most_in_flight(1);
        gather(&mut sender, 1);
        sender.message().unwrap();
        sender.ring.current_mut().invert();
        assert!(
            script.wire() == expected([0]),
            "one in flight: the first is through before the second is lent"
        );
        sender.ring.current_mut().invert();
        sender.send().unwrap();
        sender.send().unwrap(); // the same once more
        sender.flush().unwrap();
        assert!(script.wire() == expected([0, 1, 1]));
    }
}

#[test]
fn a_message_is_not_lent_before_its_notification() {
    for operation in zero_copy() {
        let (mut sender, _, queues) = scripted(operation, 2);
        queues.notify(Notify::Never);
        let first = lend(&mut sender);
        sender.send().unwrap();
        sender.submit().unwrap();
        let second = lend(&mut sender);
        assert_ne!(first, second, "the first is in flight");
        sender.send().unwrap();
        assert!(matches!(sender.message(), Err(Error::Deadline { .. })), "both are in flight");
        queues.notify_now([1], true);
        assert!(matches!(sender.message(), Err(Error::Deadline { .. })), "the first is still in flight");
        queues.notify_now([0], false);
        assert_eq!(lend(&mut sender), first);
        assert_eq!(lend(&mut sender), first, "it has not been sent since");
        assert_eq!((counts(&sender).completions, counts(&sender).copied), (2, 1));
    }
}

#[test]
fn a_message_sent_by_two_sends_is_not_lent_after_one_notification() {
    let (mut sender, script, queues) = scripted(Operation::SendMsgZc, 1);
    queues.notify(Notify::Never);
    script.expect([Step::Move(10)]);
    sender.send().unwrap();
    queues.notify_now([0], true);
    assert!(matches!(sender.message(), Err(Error::Deadline { .. })));
    queues.notify_now([1], true);
    sender.message().unwrap();
}

#[test]
fn of_a_large_ring_no_more_is_in_flight_than_the_limit() {
    let (sender, script, queues) = scripted(Operation::SendMsgZc, 100);
    let mut sender = sender.with_most_in_flight(3);
    queues.notify(Notify::Late);
    for number in 0..150 {
        gather(&mut sender, 1);
        if number % 4 == 0 {
            sender.submit().unwrap();
        }
        assert!(counts(&sender).sends - counts(&sender).completions <= 3, "{}", counts(&sender));
    }
    sender.flush().unwrap();
    assert!(script.wire() == expected((0..150).map(|number| number % 100)));
}

#[test]
fn completions_that_found_the_queue_full_are_fetched() {
    for operation in operations() {
        for completions in [1, 2, 3, 5] {
            let (mut sender, script, queues) = scripted(operation, 8);
            queues.shrink(64, completions);
            script.expect([Step::Move(PAYLOAD_BYTES), Step::Move(7)]);
            for _ in 0..3 {
                gather(&mut sender, 8);
                sender.submit().unwrap();
            }
            sender.flush().unwrap();
            assert!(queues.overflown() > 0);
            assert!(script.wire() == expected((0..24).map(|number| number % 8)));
        }
    }
}

#[test]
fn more_than_the_queue_takes_goes_in_several_chains() {
    for operation in operations() {
        let (mut sender, script, queues) = scripted(operation, 8);
        queues.shrink(3, 1024);
        script.expect([Step::Move(PAYLOAD_BYTES), Step::Move(7)]);
        gather(&mut sender, 8);
        sender.submit().unwrap();
        assert!(queues.chains().iter().all(|chain| chain.len() <= 3));
        assert!(script.wire() == expected(0..8));
    }
}

#[test]
fn a_queue_that_is_full_is_waited_for_and_given_up_in_the_end() {
    let (mut sender, script, queues) = scripted(Operation::SendMsg, 2);
    queues.fill_for(3);
    gather(&mut sender, 1);
    sender.submit().unwrap();
    assert_eq!(queues.entered(), 4);
    assert!(script.wire() == expected([0]));
    queues.fill_for(usize::MAX);
    gather(&mut sender, 1);
    assert!(matches!(sender.submit(), Err(Error::Deadline { .. })));
}

#[test]
fn enobufs_waits_for_a_notification_and_goes_on() {
    for (operation, errno) in zero_copy().into_iter().zip([libc::ENOBUFS, libc::ENOMEM]) {
        let (mut sender, script, queues) = scripted(operation, 4);
        queues.notify(Notify::Late);
        gather(&mut sender, 1);
        sender.submit().unwrap();
        script.expect([Step::Move(PAYLOAD_BYTES), Step::Errno(errno), Step::Move(7), Step::Errno(errno)]);
        gather(&mut sender, 3);
        sender.flush().unwrap();
        assert_eq!(counts(&sender).enobufs, 2);
        assert_eq!((counts(&sender).sends, counts(&sender).completions), (5, 5));
        assert!(script.wire() == expected(0..4));
    }
}

#[test]
fn of_a_chain_that_cannot_be_pinned_at_once_the_first_go_alone() {
    let (mut sender, script, queues) = scripted(Operation::SendMsgZc, 4);
    queues.refuse([(2, libc::ENOMEM), (1, libc::ENOMEM), (0, libc::ENOMEM)]);
    gather(&mut sender, 4);
    sender.flush().unwrap();
    let chains: Vec<usize> = queues.chains().iter().map(Vec::len).collect();
    assert_eq!(chains, [4, 2, 1, 4]);
    assert_eq!(counts(&sender).enobufs, 1, "the one that stood first");
    assert!(script.wire() == expected(0..4));
}

#[test]
fn enobufs_with_nothing_outstanding_here_is_tried_again_and_in_the_end_an_error() {
    let (mut sender, script, _) = scripted(Operation::SendMsgZc, 1);
    script.expect([Step::Errno(libc::ENOBUFS), Step::Errno(libc::ENOBUFS)]);
    sender.send().unwrap();
    assert_eq!(counts(&sender).enobufs, 2);
    script.stick(libc::ENOBUFS);
    sender.flush().unwrap();
    let error = sender.send().unwrap_err();
    assert!(matches!(error, Error::PinLimit { payload_bytes: PAYLOAD_BYTES, .. }), "{error}");
}

#[test]
fn enobufs_of_a_send_that_is_copied_is_an_error_of_its_own() {
    let (mut sender, script, _) = scripted(Operation::SendMsg, 1);
    script.expect([Step::Errno(libc::ENOBUFS)]);
    assert!(matches!(sender.send(), Err(Error::Call { call: "io_uring IORING_OP_SENDMSG", .. })));
}

#[test]
fn sends_without_an_answer_are_given_up_and_their_answers_still_count() {
    for operation in operations() {
        let (mut sender, script, queues) = scripted(operation, 4);
        queues.stick(true);
        gather(&mut sender, 2);
        let error = sender.submit().unwrap_err();
        assert_eq!(error.to_string(), "no room in the send buffer after 200 ms");
        sender.message().unwrap();
        assert!(sender.send().is_err() && sender.flush().is_err(), "no other send may overtake them");
        script.expect([Step::Move(PAYLOAD_BYTES), Step::Move(5)]);
        queues.stick(false);
        gather(&mut sender, 2);
        sender.flush().unwrap();
        assert!(script.wire() == expected(0..4));
    }
}

#[test]
fn an_interrupted_or_refused_call_is_made_again() {
    for operation in operations() {
        let (mut sender, script, queues) = scripted(operation, 4);
        queues.notify(Notify::Late);
        queues.fail([libc::EINTR, libc::EAGAIN, libc::EBUSY, libc::ETIME]);
        gather(&mut sender, 4);
        assert_eq!(queues.entered(), 5);
        queues.fail([libc::EINTR]);
        sender.flush().unwrap();
        assert!(script.wire() == expected(0..4));
    }
}

#[test]
fn the_call_of_another_thread_is_an_error_that_says_so() {
    let (mut sender, _, queues) = scripted(Operation::SendMsg, 1);
    queues.fail([libc::EEXIST]);
    let error = sender.send().unwrap_err();
    assert!(error.to_string().contains("belongs to the thread"), "{error}");
}

#[test]
fn a_connection_that_breaks_inside_a_chain_ends_it() {
    for operation in operations() {
        let (mut sender, script, _) = scripted(operation, 4);
        script.expect([Step::Move(PAYLOAD_BYTES), Step::Move(3), Step::Errno(libc::EPIPE)]);
        gather(&mut sender, 3);
        let error = sender.submit().unwrap_err();
        assert!(
            matches!(&error, Error::Call { call, .. } if call.starts_with("io_uring IORING_OP_")),
            "{error}"
        );
        let sent_bytes = script.wire().len();
        drop(sender);
        assert_eq!(script.wire().len(), sent_bytes, "nothing more after an error");
    }
}

#[test]
fn after_an_error_with_a_full_batch_sends_are_errors_and_no_panic() {
    let small = || (0..40).map(|number| message_bytes(number).0).collect();
    let large = || (0..40).map(|_| Message::new(GATHERED_BYTES / 2, Layout::Heap)).collect();
    let batches: [(usize, &dyn Fn() -> Vec<Message>); 2] = [(MOST_GATHERED, &small), (2, &large)];
    for operation in operations() {
        for (batch, messages) in batches {
            for errno in [libc::EPIPE, libc::EAGAIN] {
                let script = Script::default();
                script.stick(errno);
                let mut sender = sender(script.clone(), ScriptedQueues::new(&script), messages(), operation);
                let mut send = || sender.message().map(drop).and_then(|()| sender.send());
                assert!((1..batch).all(|_| send().is_ok()), "gathered");
                assert!((0..3).all(|_| send().is_err()), "{operation:?}, {errno}");
            }
        }
    }
}

#[test]
fn a_send_that_fails_is_not_laid_on_the_kernels_age_which_was_looked_at_before() {
    for operation in zero_copy() {
        let (mut sender, script, _) = scripted(operation, 1);
        script.expect([Step::Errno(libc::EINVAL)]);
        let error = sender.send().unwrap_err().with_cause();
        assert!(error.contains("Invalid argument") && !error.contains("Linux 6"), "{error}");
    }
}

#[test]
fn a_chain_that_went_on_after_a_short_send_is_an_error() {
    let (mut sender, script, queues) = scripted(Operation::SendMsg, 3);
    queues.ignore_links();
    script.expect([Step::Move(3)]);
    gather(&mut sender, 2);
    let error = sender.submit().unwrap_err();
    assert!(error.to_string().contains("IOSQE_IO_LINK"), "{error}");
    let sent_bytes = script.wire().len();
    assert!(sender.send().and_then(|()| sender.submit()).is_err() && sender.flush().is_err());
    assert_eq!(script.wire().len(), sent_bytes, "nothing is sent a second time");
}

#[test]
fn dropped_it_sends_what_is_gathered_and_waits_for_what_is_outstanding() {
    for operation in operations() {
        let (mut sender, script, queues) = scripted(operation, 4);
        queues.notify(Notify::Late);
        gather(&mut sender, 3);
        drop(sender);
        assert!(script.wire() == expected(0..3));
        assert_eq!(queues.entered(), if zero_copy().contains(&operation) { 2 } else { 1 });
    }
}

#[test]
fn dropped_with_sends_in_flight_it_leaves_all_that_they_read() {
    for operation in operations() {
        let (mut sender, script, queues) = scripted(operation, 4);
        queues.stick(true);
        gather(&mut sender, 3);
        assert!(sender.submit().is_err());
        drop(sender);
        // Memory that was given back would be used for these.
        let others: Vec<_> = (0..64).map(|_| message_bytes(99)).collect();
        queues.stick(false);
        assert!(script.wire() == expected(0..3), "{operation:?}");
        drop(others);
    }
}

#[test]
fn dropped_without_its_notifications_it_leaves_the_messages() {
    for operation in zero_copy() {
        let (mut sender, script, queues) = scripted(operation, 2);
        queues.notify(Notify::Never);
        queues.read_late();
        gather(&mut sender, 1);
        sender.submit().unwrap();
        drop(sender);
        let others: Vec<_> = (0..64).map(|_| message_bytes(99)).collect();
        queues.notify_now([0], false);
        assert!(script.wire().ends_with(&expected([0])), "{operation:?}");
        drop(others);
    }
}

#[test]
fn an_overwritten_message_arrives_changed_while_it_is_read_and_as_it_was_after() {
    for operation in zero_copy() {
        let (mut sender, script, queues) = scripted(operation, 2);
        queues.read_late();
        queues.notify(Notify::Never);
        gather(&mut sender, 1);
        assert!(!sender.overwrite().unwrap(), "the kernel has not let go of it");
        queues.notify_now([0], false);
        let inverse: Vec<u8> = expected([0]).iter().map(|byte| !byte).collect();
        assert!(script.wire().ends_with(&inverse), "the planted reuse is seen");
        sender.flush().unwrap();
        assert!(sender.overwrite().unwrap());
        queues.notify(Notify::AtOnce);
        gather(&mut sender, 1);
        assert!(sender.overwrite().unwrap());
        assert!(script.wire().ends_with(&expected([1])));
    }
    for operation in &operations()[..2] {
        let (mut sender, script, _) = scripted(*operation, 2);
        gather(&mut sender, 1);
        assert!(sender.overwrite().unwrap());
        assert!(script.wire() == expected([0]));
    }
}

#[test]
fn prepare_writes_no_message_that_is_in_flight() {
    let (mut sender, script, queues) = scripted(Operation::SendMsgZc, 2);
    queues.notify(Notify::Never);
    gather(&mut sender, 1);
    let mut written = 0;
    assert!(sender.prepare(&mut |_| written += 1).is_err());
    assert_eq!((written, script.wire().len()), (0, PAYLOAD_BYTES));
    queues.notify_now([0], true);
    sender.prepare(&mut |_| written += 1).unwrap();
    assert_eq!(written, 2);
}

#[test]
fn empty_messages_and_fields_are_no_sends() {
    for operation in operations() {
        let script = Script::default();
        let queues = ScriptedQueues::new(&script);
        let lengths = [[0; 8], [0, 5, 0, 0, 0, 3, 0, 0], [0, 0, 0, 7, 0, 0, 0, 0]];
        let messages = lengths.map(|bytes| Message::with_field_bytes(&bytes, Layout::Heap)).into();
        let mut sender = sender(script.clone(), queues.clone(), messages, operation);
        for _ in 0..3 {
            sender.message().unwrap().fill(1);
            sender.send().unwrap();
        }
        sender.flush().unwrap();
        assert_eq!(script.wire().len(), 15);
        let entries = queues.chains().concat();
        assert_eq!(entries.len(), 2);
        let is_range = |place: usize| matches!(entries[place].payload, Payload::Bytes { .. });
        let is_fixed = matches!(operation, Operation::Fixed(_));
        assert_eq!(is_range(0), operation == Operation::Send);
        assert_eq!(is_range(1), operation == Operation::Send || is_fixed, "one field of a registered buffer");
    }
}

/// A socket whose owner has something to do while a ring is waited for.
#[derive(Clone, Debug, Default)]
struct Attended<S> {
    socket: S,
    asked: Arc<Mutex<Vec<bool>>>,
    sent_bytes: Arc<Mutex<usize>>,
}

impl<S> Attended<S> {
    fn new(socket: S) -> Self {
        Self { socket, asked: Arc::default(), sent_bytes: Arc::default() }
    }
}

impl<S: Socket> Sealed for Attended<S> {
    fn stream(&self) -> &TcpStream {
        self.socket.stream()
    }
}

impl<S: Socket> Socket for Attended<S> {
    fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<Readiness> {
        self.socket.wait(interest, timeout)
    }
    fn sent(&self, bytes: usize) {
        *self.sent_bytes.lock().unwrap() += bytes;
    }
    fn attend(&self, again: bool) -> io::Result<Option<Duration>> {
        self.asked.lock().unwrap().push(again);
        Ok(Some(Duration::from_millis(1)))
    }
}

#[test]
fn a_socket_that_is_attended_to_is_told_what_went_and_asked_before_each_wait() {
    for operation in operations() {
        let socket = Attended::new(Script::default());
        let queues = ScriptedQueues::new(&socket.socket);
        let messages = (0..2).map(|number| message_bytes(number).0).collect();
        let mut sender =
            UringSender::with_queues(socket.clone(), Ring::new(messages), operation, queues.clone()).unwrap();
        assert_eq!(*socket.asked.lock().unwrap(), [false], "asked once, whether it needs it");
        socket.socket.expect([Step::Move(9), Step::Errno(libc::EAGAIN)]);
        queues.fail([libc::ETIME, libc::ETIME, libc::ETIME]);
        sender.send().unwrap();
        sender.submit().unwrap();
        assert_eq!(*socket.sent_bytes.lock().unwrap(), PAYLOAD_BYTES);
        assert_eq!(*socket.asked.lock().unwrap(), [false, false, true, true]);
        assert!(queues.chains().concat().iter().all(|entry| entry.is_impatient));
    }
    let (mut sender, _, queues) = scripted(Operation::SendMsg, 1);
    sender.send().unwrap();
    assert!(queues.chains().concat().iter().all(|entry| !entry.is_impatient));
}

#[test]
fn a_socket_is_not_attended_to_while_a_polling_thread_sends() {
    for operation in operations() {
        for messages in [1, 4] {
            let socket = Attended::new(Script::default());
            let queues = ScriptedQueues::new(&socket.socket);
            queues.poll();
            let ring = Ring::new((0..4).map(|number| message_bytes(number).0).collect());
            let mut sender =
                UringSender::with_queues(socket.clone(), ring, operation, queues.clone()).unwrap();
            for _ in 0..messages {
                sender.message().unwrap();
                sender.send().unwrap();
            }
            sender.submit().unwrap();
            assert_eq!(*socket.sent_bytes.lock().unwrap(), messages * PAYLOAD_BYTES);
            assert_eq!(
                *socket.asked.lock().unwrap(),
                [false],
                "{operation:?}: when it was made, and not since"
            );
        }
    }
}

#[test]
fn an_empty_ring_is_refused() {
    let empty = catch_unwind(AssertUnwindSafe(|| drop(scripted(Operation::Send, 0))));
    assert!(empty.is_err());
}

// Over the kernel's queues, where there are any.

/// Whether this machine has what the operation needs. Where not, the test says why it is left out.
fn is_there(operation: Operation) -> bool {
    let needs = if operation.registered().is_some() {
        4
    } else if operation.is_zero_copy() {
        3
    } else {
        1
    };
    for (name, found) in support().into_iter().take(needs) {
        match found {
            Support::Has => {}
            Support::Lacks(why) => {
                eprintln!("skipped: {name}: {why}");
                return false;
            }
            Support::NotKnown(error) => panic!("{name}: {error}"),
        }
    }
    true
}

/// Messages in one mapping, and that mapping.
fn messages_in_an_arena(messages: usize, payload_bytes: usize) -> (Vec<Message>, Registered) {
    let field_bytes = vec![field_bytes(payload_bytes).to_vec(); messages];
    let (messages, arena) = Message::in_arena(&field_bytes, Layout::Heap).unwrap();
    (messages, Registered::arena(&arena))
}

/// One of each that this machine has, with messages for it.
fn kernel_cases(messages: usize, payload_bytes: usize) -> Vec<(Operation, Handover, Vec<Message>)> {
    let mut cases = Vec::new();
    for handover in [Handover::Enter, Handover::SqPoll] {
        for operation in operations() {
            let (messages, arena) = messages_in_an_arena(messages, payload_bytes);
            let operation =
                if operation.registered().is_some() { Operation::Fixed(arena) } else { operation };
            if is_there(operation) {
                cases.push((operation, handover, messages));
            }
        }
    }
    cases
}

fn set_buffer(socket: &TcpStream, option: libc::c_int, bytes: libc::c_int) {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is a live int of the length that is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const bytes).cast(), length)
    };
    assert_eq!(result, 0);
}

/// Receives `messages` on a thread, and checks every byte.
fn verifying(receiving: TcpStream, payload_bytes: usize, messages: u64) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut receiver = MessageReceiver::buffer(receiving, vec![field_bytes(payload_bytes).to_vec()]);
        for number in 0..messages {
            receiver.receive().unwrap();
            assert_eq!(receiver.last().verify(0, number), Some(Ok(())));
        }
    })
}

fn send_numbered<S: Socket + Send>(sender: &mut UringSender<S>, messages: u64, submit_every: u64) {
    sender.prepare(&mut |mut message| message.fill(0)).unwrap();
    for number in 0..messages {
        sender.message().unwrap().stamp(number);
        sender.send().unwrap();
        if number % submit_every == submit_every - 1 {
            sender.submit().unwrap();
        }
    }
    sender.flush().unwrap();
}

fn assert_all_copied<S: Socket + Send>(sender: &UringSender<S>, payload_bytes: usize, messages: u64) {
    let total_bytes = payload_bytes as u64 * messages;
    let copies = sender.copies();
    match sender.zero_copy_counts() {
        Some(counts) => {
            assert_eq!((counts.sends, counts.sent_bytes), (counts.completions, total_bytes));
            assert_eq!(counts.notifications, counts.completions, "the ring joins none");
            assert_eq!(counts.copied_share(), Some(1.0), "over loopback, the kernel copies");
            assert_eq!(copies.deferred_bytes, total_bytes);
        }
        None => assert_eq!(copies.user_to_kernel_bytes, total_bytes),
    }
}

#[test]
fn thousands_of_messages_arrive_as_they_were_sent() {
    const MESSAGES: u64 = 3000;
    for submit_every in [1, 7, 1000] {
        for (operation, handover, messages) in kernel_cases(16, 1003) {
            let (sending, receiving) = script::connected();
            let peer = verifying(receiving, 1003, MESSAGES);
            let mut sender = UringSender::new(sending, messages, operation, handover).unwrap();
            send_numbered(&mut sender, MESSAGES, submit_every);
            peer.join().unwrap();
            assert_all_copied(&sender, 1003, MESSAGES);
        }
    }
}

#[test]
fn messages_larger_than_the_buffers_arrive_as_they_were_sent() {
    const MESSAGES: u64 = 40;
    const BYTES: usize = 300_000;
    for is_non_blocking in [false, true] {
        for (operation, handover, messages) in kernel_cases(4, BYTES) {
            let (sending, receiving) = script::connected();
            set_buffer(&sending, libc::SO_SNDBUF, 128 << 10);
            sending.set_nonblocking(is_non_blocking).unwrap();
            let peer = verifying(receiving, BYTES, MESSAGES);
            let mut sender = UringSender::new(sending, messages, operation, handover).unwrap();
            send_numbered(&mut sender, MESSAGES, 2);
            peer.join().unwrap();
            assert_all_copied(&sender, BYTES, MESSAGES);
        }
    }
}

#[test]
fn chains_that_the_kernel_breaks_are_mended() {
    const MESSAGES: u64 = 600;
    const BYTES: usize = 30_011;
    for (operation, handover, messages) in kernel_cases(32, BYTES) {
        let (sending, receiving) = script::connected();
        set_buffer(&sending, libc::SO_SNDBUF, 32 << 10);
        let peer = verifying(receiving, BYTES, MESSAGES);
        let mut sender = UringSender::new(Attended::new(sending), messages, operation, handover).unwrap();
        send_numbered(&mut sender, MESSAGES, 8);
        peer.join().unwrap();
        assert_all_copied(&sender, BYTES, MESSAGES);
        assert_eq!(*sender.socket.sent_bytes.lock().unwrap(), BYTES * MESSAGES as usize);
        if let Some(counts) = sender.zero_copy_counts() {
            assert!(counts.sends > MESSAGES, "some sends were short: {counts}");
        }
    }
}

#[test]
fn a_message_of_one_field_goes_from_a_registered_buffer_on_older_kernels_too() {
    const BYTES: usize = 5000;
    let message = Message::with_field_bytes(&[0, 0, BYTES, 0, 0, 0, 0, 0], Layout::Page);
    let arena = Registered { start: message.field(2).as_ptr(), bytes: BYTES };
    if !is_there(Operation::SendMsgZc) {
        return;
    }
    let (sending, receiving) = script::connected();
    let mut sender =
        UringSender::new(sending, vec![message], Operation::Fixed(arena), Handover::Enter).unwrap();
    let mut receiver = MessageReceiver::buffer(receiving, vec![field_bytes(BYTES).to_vec()]);
    for number in 0..100 {
        let mut message = sender.message().unwrap();
        message.fill(number);
        let sent = message.field(2).to_vec();
        sender.send().unwrap();
        sender.submit().unwrap();
        receiver.receive().unwrap();
        assert!(receiver.bytes() == sent);
    }
    sender.flush().unwrap();
    assert_all_copied(&sender, BYTES, 100);
}

#[test]
fn fields_outside_the_registered_memory_are_refused() {
    let (sending, _receiving) = script::connected();
    let message = Message::new(800, Layout::Heap);
    let arena = Registered { start: message.field(0).as_ptr(), bytes: 100 };
    let error =
        UringSender::new(sending, vec![message], Operation::Fixed(arena), Handover::Enter).unwrap_err();
    assert!(error.to_string().contains("Message::in_arena"), "{error}");
}

#[test]
fn memory_that_cannot_be_registered_is_refused() {
    if !is_there(Operation::SendMsgZc) {
        return;
    }
    let (sending, _receiving) = script::connected();
    let nowhere = Registered { start: std::ptr::null(), bytes: 4096 };
    let messages = vec![Message::new(0, Layout::Heap)];
    let error = UringSender::new(sending, messages, Operation::Fixed(nowhere), Handover::Enter).unwrap_err();
    assert!(
        matches!(error, Error::Refused { .. }) && error.to_string().contains("mapped for writing"),
        "{error}"
    );
}

#[test]
fn the_kernels_queues_may_be_as_small_as_they_are() {
    const MESSAGES: u64 = 500;
    for (operation, handover, messages) in kernel_cases(32, 1003) {
        let (sending, receiving) = script::connected();
        let peer = verifying(receiving, 1003, MESSAGES);
        // Four entries, and four completions: half of what a chain of zero-copy sends brings.
        let queues =
            KernelQueues::new(sending.as_raw_fd(), (4, 4), handover, operation.registered()).unwrap();
        let mut sender = UringSender::with_queues(sending, Ring::new(messages), operation, queues).unwrap();
        send_numbered(&mut sender, MESSAGES, 1000);
        peer.join().unwrap();
        assert_all_copied(&sender, 1003, MESSAGES);
    }
}

#[test]
fn a_premature_reuse_is_seen_by_the_receiver() {
    const BYTES: usize = 3 << 20;
    if !is_there(Operation::SendMsgZc) {
        return;
    }
    for is_overwritten in [true, false] {
        let (sending, receiving) = script::connected();
        set_buffer(&sending, libc::SO_SNDBUF, 8 << 20);
        set_buffer(&receiving, libc::SO_RCVBUF, 64 << 10);
        let messages = vec![Message::new(BYTES, Layout::Page)];
        let mut sender = UringSender::new(sending, messages, Operation::SendMsgZc, Handover::Enter).unwrap();
        let mut message = sender.message().unwrap();
        message.fill(0);
        message.stamp(1);
        // Nobody receives yet. What the receiver's buffer does not take stays at the sender,
        // uncopied.
        sender.send().unwrap();
        let ZeroCopyCounts { sends, completions, .. } = sender.zero_copy_counts().unwrap();
        assert_eq!((sends, completions), (1, 0));
        if is_overwritten {
            assert!(!sender.overwrite().unwrap(), "the kernel has not let go of it");
        }
        let mut receiver = MessageReceiver::buffer(receiving, vec![field_bytes(BYTES).to_vec()]);
        receiver.receive().unwrap();
        assert_eq!(receiver.last().verify(0, 1).unwrap().is_err(), is_overwritten);
        sender.flush().unwrap();
        assert!(sender.overwrite().unwrap(), "it has now");
    }
}

#[test]
fn a_sender_dropped_with_sends_in_flight_ends_and_its_bytes_are_right() {
    const BYTES: usize = 1 << 20;
    for (operation, handover, messages) in kernel_cases(2, BYTES) {
        let (sending, receiving) = script::connected();
        set_buffer(&sending, libc::SO_SNDBUF, 64 << 10);
        set_buffer(&receiving, libc::SO_RCVBUF, 64 << 10);
        let mut sender = UringSender::new(sending, messages, operation, handover).unwrap();
        sender.wait_limit = Duration::from_millis(30);
        sender.prepare(&mut |mut message| message.fill(0)).unwrap();
        sender.message().unwrap().stamp(0);
        assert!(sender.send().and_then(|()| sender.submit()).is_err(), "nobody receives");
        drop(sender);
        let others: Vec<_> = (0..4).map(|_| vec![0xaa_u8; BYTES]).collect();
        // The kernel ends the send somewhere. What it sent until then is the message's.
        let mut expected = Message::new(BYTES, Layout::Heap);
        expected.fill(0);
        expected.stamp(0);
        let mut packed = vec![0; BYTES];
        expected.pack(&mut packed);
        let mut received = Vec::new();
        std::io::Read::read_to_end(&mut { receiving }, &mut received).ok();
        assert!(packed.starts_with(&received) && !received.is_empty(), "{operation:?}, {handover:?}");
        drop(others);
    }
}

#[test]
fn made_on_one_thread_it_sends_on_another_and_only_there() {
    let Some((operation, handover, messages)) = kernel_cases(2, 800).into_iter().nth(1) else { return };
    let (sending, receiving) = script::connected();
    let mut sender = UringSender::new(sending, messages, operation, handover).unwrap();
    let peer = verifying(receiving, 800, 10);
    let mut sender = thread::spawn(move || {
        send_numbered(&mut sender, 10, 1);
        sender
    })
    .join()
    .unwrap();
    peer.join().unwrap();
    sender.send().unwrap();
    let error = sender.submit().unwrap_err();
    // Kernels before Linux 6.1 bind no ring to a thread, and there is no error then.
    assert!(error.to_string().contains("belongs to the thread"), "{error}");
}

#[test]
fn the_polling_threads_time_is_told() {
    for (operation, handover, messages) in kernel_cases(4, 800) {
        let (sending, receiving) = script::connected();
        let mut sender = UringSender::new(sending, messages, operation, handover).unwrap();
        let peer = verifying(receiving, 800, 200);
        send_numbered(&mut sender, 200, 4);
        peer.join().unwrap();
        match (handover, sender.kernel_thread_ns()) {
            (Handover::Enter, time) => assert_eq!(time.unwrap(), 0, "there is no such thread"),
            (Handover::SqPoll, Ok(time_ns)) => assert!(time_ns > 0),
            // Inside a namespace of process ids.
            (Handover::SqPoll, Err(error)) => assert!(error.to_string().contains("which thread"), "{error}"),
        }
    }
}
