// A program of what Rust is asked to unwind through: boxed closures, generic collections, panics that
// are caught, and a thread. It runs for two seconds.
use std::collections::{BTreeMap, HashMap};
use std::panic;
use std::thread;
use std::time::Instant;

#[inline(never)]
fn sorts(k: u64) -> u64 {
    let mut all: Vec<String> = (0..3000u64)
        .map(|i| ((i * 7919 + k) % 10007).to_string())
        .collect();
    all.sort();
    all[3].len() as u64
}

#[inline(never)]
fn maps(k: u64) -> u64 {
    let mut all: HashMap<u64, Box<dyn Fn(u64) -> u64>> = HashMap::new();
    for i in 0..1000u64 {
        all.insert(i * 31 + k, Box::new(move |x| x * i));
    }
    let mut sorted = BTreeMap::new();
    for (key, f) in &all {
        sorted.insert(*key, f(*key));
    }
    sorted.values().take(10).sum()
}

#[inline(never)]
fn panics(k: u64) -> u64 {
    let caught = panic::catch_unwind(|| {
        if k % 3 == 0 {
            panic::resume_unwind(Box::new(1));
        }
        k
    });
    caught.unwrap_or(1)
}

fn main() {
    let begun = Instant::now();
    let on = move || begun.elapsed().as_secs_f64() < 2.0;
    let other = thread::spawn(move || {
        let (mut sum, mut k) = (0, 0);
        while on() {
            sum += sorts(k);
            k += 1;
        }
        sum
    });
    let (mut sum, mut k) = (0u64, 0);
    while on() {
        sum = sum.wrapping_add(maps(k) + panics(k) + sorts(k));
        k += 1;
    }
    println!("{} {}", sum, other.join().unwrap());
}
