//! The targets of `fuzz/` for a few seconds each, without libFuzzer: on its seeds, on what random
//! changes make of them, and on random bytes. `SENDPATH_FUZZ_SECONDS` makes it longer, and
//! `SENDPATH_FUZZ_SEED` repeats a run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::any::Any;
use std::cell::Cell;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fuzzing;

/// Notes the largest piece of memory that the thread asked for.
struct Noting;

thread_local! {
    static LARGEST_BYTES: Cell<usize> = const { Cell::new(0) };
}

fn note(bytes: usize) {
    // A thread that is ending has nothing to note.
    let _ = LARGEST_BYTES.try_with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: hands every call on to the system's allocator, unchanged; noting a size allocates
// nothing.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static NOTING: Noting = Noting;

/// What may be asked for at once: a frame of the control protocol at its longest, and some for each
/// byte of the input.
fn allowed_bytes(input: &[u8]) -> usize {
    (1 << 20) + 64 * input.len()
}

const SECONDS: f64 = 3.0;
/// Inputs are no longer than this. The texts that are read are shorter.
const LONGEST_BYTES: usize = 4096;
/// Inputs that could be read, and are changed further.
const POOL: usize = 256;
/// Shapes live as long as the process: so many inputs leave some hundred megabytes of them at most.
const MOST_RUNS: u64 = 1_000_000;

/// Where a number is read, these are worth trying.
const NUMBERS: [u64; 16] = [
    0,
    1,
    7,
    8,
    9,
    64,
    65,
    127,
    128,
    256,
    257,
    1_000_001,
    16 << 20,
    (16 << 20) + 1,
    u32::MAX as u64,
    u64::MAX,
];

#[test]
fn error_queue() {
    fuzz("error_queue", fuzzing::error_queue);
}

#[test]
fn control() {
    fuzz("control", fuzzing::control);
}

#[test]
fn samples_csv() {
    fuzz("samples_csv", fuzzing::samples_csv);
}

#[test]
fn shape() {
    fuzz("shape", fuzzing::shape);
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    if !fuzz.exists() {
        println!("{target}: no seeds: they are in the repository, and not in the package");
        return Vec::new();
    }
    let folder = fuzz.join("seeds").join(target);
    let entries = fs::read_dir(&folder).expect("the folder of seeds can be read");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("its entries, too").path()).collect();
    assert!(!files.is_empty(), "{} has seeds", folder.display());
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a seed can be read")).collect()
}

fn fuzz(target: &str, body: fn(&[u8]) -> bool) {
    let seed = variable("SENDPATH_FUZZ_SEED").unwrap_or_else(rand::random);
    let time = Duration::from_secs_f64(variable("SENDPATH_FUZZ_SECONDS").unwrap_or(SECONDS));
    println!("{target}: SENDPATH_FUZZ_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let seeds = seeds(target);
    for input in &seeds {
        let was_read = run(target, seed, body, input);
        assert!(was_read, "{target}: a seed is not read: {}", input.escape_ascii());
    }
    // What could be read is changed further. The seeds stay; the others make room for each other.
    let mut pool = seeds.clone();
    let since = Instant::now();
    let (mut runs, mut read) = (0, 0);
    while since.elapsed() < time && runs < MOST_RUNS {
        let input = if pool.is_empty() || random.random_ratio(1, 16) {
            noise(&mut random)
        } else {
            changed(&mut random, &pool)
        };
        runs += 1;
        if run(target, seed, body, &input) {
            read += 1;
            if pool.len() < POOL {
                pool.push(input);
            } else {
                let place = random.random_range(seeds.len()..POOL);
                pool[place] = input;
            }
        }
    }
    println!("{target}: {runs} inputs in {:.1} s, {read} of them read", since.elapsed().as_secs_f64());
}

/// One input. Where something does not hold of it, the test fails with the input.
fn run(target: &str, seed: u64, body: fn(&[u8]) -> bool, input: &[u8]) -> bool {
    LARGEST_BYTES.set(0);
    let result = catch_unwind(|| body(input));
    let largest_bytes = LARGEST_BYTES.get();
    let problem = match result {
        Err(panic) => said(panic.as_ref()),
        Ok(_) if largest_bytes > allowed_bytes(input) => format!("asks for {largest_bytes} bytes at once"),
        Ok(was_read) => return was_read,
    };
    let hex: Vec<String> = input.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = hex.concat();
    panic!(
        "{target} (SENDPATH_FUZZ_SEED={seed}): {problem}\ninput, {} bytes: \"{}\"\nas hex, for `xxd -r -p`: {hex}",
        input.len(),
        input.escape_ascii()
    );
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

fn noise(random: &mut impl Rng) -> Vec<u8> {
    let bytes = 1_usize << random.random_range(0..10);
    let bytes = random.random_range(0..=bytes);
    (0..bytes).map(|_| random.random()).collect()
}

/// One of the pool, changed in one to eight places.
fn changed(random: &mut impl Rng, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut input = pool[random.random_range(0..pool.len())].clone();
    for _ in 0..1_usize << random.random_range(0..4) {
        let other = &pool[random.random_range(0..pool.len())];
        change(random, &mut input, other);
        input.truncate(LONGEST_BYTES);
    }
    input
}

fn change(random: &mut impl Rng, input: &mut Vec<u8>, other: &[u8]) {
    let (start, end) = part(random, input.len());
    match random.random_range(0..9) {
        0 if start < input.len() => input[start] ^= 1 << random.random_range(0..8),
        1 if start < input.len() => input[start] = random.random(),
        2 => drop(input.drain(start..end)),
        3 => input.truncate(start),
        // Twice the same.
        4 => {
            let again = input[start..end].to_vec();
            input.splice(end..end, again);
        }
        // A part of another.
        5 => {
            let (from, to) = part(random, other.len());
            input.splice(start..end, other[from..to].iter().copied());
        }
        // A number, where there is one in digits.
        6 => {
            let digits = |byte: &u8| byte.is_ascii_digit();
            let Some(from) = input[start..].iter().position(digits).map(|at| start + at) else { return };
            let length = input[from..].iter().take_while(|byte| digits(byte)).count();
            let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_string();
            input.splice(from..from + length, number.into_bytes());
        }
        // Another word in the place of one, or a number.
        7 => {
            let (from, to) = word(input, start);
            let (other_from, other_to) = word(other, part(random, other.len()).0);
            let new = if random.random() {
                other[other_from..other_to].to_vec()
            } else {
                NUMBERS[random.random_range(0..NUMBERS.len())].to_string().into_bytes()
            };
            input.splice(from..to, new);
        }
        // A number in binary.
        _ => {
            let number = NUMBERS[random.random_range(0..NUMBERS.len())];
            let number = if random.random() { number } else { number.wrapping_neg() };
            let bytes = [1, 2, 4, 8][random.random_range(0..4)];
            for (byte, new) in input[start..].iter_mut().zip(&number.to_le_bytes()[..bytes]) {
                *byte = *new;
            }
        }
    }
}

/// What stands around a place, between two separators; it may be empty.
fn word(text: &[u8], at: usize) -> (usize, usize) {
    let separates = |byte: &u8| b",;:|x# \t\r\n\"[]{}".contains(byte);
    let from = text[..at].iter().rposition(separates).map_or(0, |before| before + 1);
    let to = text[at..].iter().position(separates).map_or(text.len(), |after| at + after);
    (from, to)
}

/// A part of something so long, mostly a short one.
fn part(random: &mut impl Rng, length: usize) -> (usize, usize) {
    let start = random.random_range(0..=length);
    let most = if random.random_ratio(3, 4) { 8 } else { length };
    (start, (start + random.random_range(0..=most)).min(length))
}
