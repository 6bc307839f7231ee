//! What this machine's memory and integer products can do at most, and what every packed form
//! reaches of it: `cargo run --release -p compute --example kernels -- [--limits] [THREADS]`.

use compute::cpu::{Tier, measure};
use models::dtype::DType;

const FORMS: [DType; 10] = [
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::F16,
    DType::BF16,
];
/// Of a matrix that memory holds, and of one that caches do.
const LARGE: (usize, usize) = (65_536, 8192);
const SMALL: (usize, usize) = (4096, 2048);
const G: f64 = 1e9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let is_short = arguments.next_if(|argument| argument == "--limits").is_some();
    let threads = arguments.next().map_or(Ok(1), |threads| threads.parse())?;
    let read = measure::read_rate(threads)?;
    println!("{threads} thread(s): memory is read at {:.1} GB/s", read / G);
    for tier in Tier::all() {
        println!("{tier:?}: {:.0} Gop/s of byte products", measure::dot_rate(tier, threads) / G);
    }
    if is_short {
        return Ok(());
    }
    let dots = measure::dot_rate(Tier::best(), threads);
    println!("form   GB/s (share of reading) at 1, 4, 8, 16 rows     Gop/s (share) at 512");
    for form in FORMS {
        print!("{:5}", form.to_string());
        for rows in [1, 4, 8, 16] {
            let rate = measure::product(form, LARGE, rows, threads)?.bytes_per_s;
            print!("  {:5.1} ({:.2})", rate / G, rate / read);
        }
        let rate = measure::product(form, SMALL, 512, threads)?.ops_per_s;
        println!("  {:6.0} ({:.2})", rate / G, rate / dots);
    }
    Ok(())
}
