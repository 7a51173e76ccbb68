//! Rows of `samples.csv`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = sendpath::fuzzing::samples_csv(input);
});
