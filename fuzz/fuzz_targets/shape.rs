//! Shapes, lists of shapes and trace files.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = sendpath_fuzz::shape(input);
});
