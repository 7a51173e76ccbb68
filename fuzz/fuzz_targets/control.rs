//! Frames of the control protocol.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = sendpath_fuzz::control(input);
});
