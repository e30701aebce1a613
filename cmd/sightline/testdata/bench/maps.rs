use std::collections::{BTreeMap,HashMap};
#[inline(never)] fn sorts(k:u64)->u64{ let mut v:Vec<String>=(0..3000u64).map(|i|((i*7919+k)%10007).to_string()).collect(); v.sort(); v[3].len() as u64 }
#[inline(never)] fn maps(k:u64)->u64{ let mut m:HashMap<u64,Box<dyn Fn(u64)->u64>>=HashMap::new(); for i in 0..1000u64 { m.insert(i*31+k, Box::new(move |x| x*i)); } let mut b=BTreeMap::new(); for (a,f) in &m { b.insert(*a, f(*a)); } b.values().take(10).sum() }
#[inline(never)] fn panics(k:u64)->u64{ match std::panic::catch_unwind(||{ if k%3==0 { std::panic::resume_unwind(Box::new(1)); } k }) { Ok(x)=>x, Err(_)=>1 } }
fn main(){ let t=std::time::Instant::now(); let h=std::thread::spawn(move||{ let mut s=0; let mut k=0; while t.elapsed().as_secs_f64()<2.0 { s+=sorts(k); k+=1;} s}); let mut s=0u64; let mut k=0; while t.elapsed().as_secs_f64()<2.0 { s=s.wrapping_add(maps(k)+panics(k)+sorts(k)); k+=1; } println!("{} {}",s,h.join().unwrap()); }
