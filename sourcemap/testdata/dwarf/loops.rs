// Closures, iterators, generics and traits: deep inlining through the standard library.
use std::collections::HashMap;
use std::hint::black_box;

trait Cost {
    fn cost(&self) -> f64;
}

struct Line {
    hits: Vec<u64>,
}

impl Cost for Line {
    #[inline]
    fn cost(&self) -> f64 {
        self.hits.iter().map(|h| weigh(*h)).sum()
    }
}

#[inline(always)]
fn weigh(h: u64) -> f64 {
    if h % 3 == 0 { (h as f64).sqrt() } else { h as f64 * 0.5 }
}

#[inline(never)]
fn total<C: Cost>(lines: &[C]) -> f64 {
    lines.iter().filter(|l| l.cost() > 2.0).fold(0.0, |a, l| a + l.cost())
}

mod names {
    #[inline(never)]
    pub fn longest<'a>(words: &'a [String]) -> Option<&'a String> {
        words.iter().max_by_key(|w| w.chars().filter(|c| c.is_alphabetic()).count())
    }
}

fn main() {
    let lines: Vec<Line> = (0..50u64).map(|i| Line { hits: (i..i + 9).collect() }).collect();
    let mut words: Vec<String> = (0..20).map(|i| format!("word{i}{}", "x".repeat(i % 5))).collect();
    words.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    let mut counts: HashMap<String, usize> = HashMap::new();
    for w in &words {
        *counts.entry(w.clone()).or_insert(0) += w.len();
    }
    println!("{} {:?} {}", black_box(total(&lines)), names::longest(&words), counts.len());
}
