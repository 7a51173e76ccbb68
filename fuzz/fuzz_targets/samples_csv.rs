//! Rows of `samples.csv`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = sendpath_fuzz::samples_csv(input);
});
