//! Notifications of the error queue, read and booked.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = sendpath_fuzz::error_queue(input);
});
