//! The power-on self-test: every kernel on a little random input, beside the same arithmetic on the
//! CPU. What a GPU gets wrong is known by its kernel's name before anything is served on it, and
//! slower kernels stand in where there are any.

mod attention;
mod products;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::driver::{CudaError, Device, Kernel, Memory, Plain};
use super::launches::{self, ATTENTION_ANY, BY_GATE, BY_NORM, HALF, Launch, ROPE_STORE, SINGLE};
use super::pack::Form;

/// How a kernel did.
#[derive(Clone, Debug, PartialEq)]
pub struct Tested {
    /// Its name.
    pub kernel: String,
    /// How far its farthest number is off, of the largest there is; infinite where a number is none
    /// that should be one.
    pub off: f32,
    /// How far it may be off.
    pub off_max: f32,
}

impl Tested {
    /// Whether it does what it should.
    pub fn is_good(&self) -> bool {
        self.off <= self.off_max
    }
}

/// Kernels that a device does without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Avoided(BTreeSet<String>);

impl Avoided {
    /// Those that failed their test, where others do their work.
    ///
    /// # Errors
    /// The name of one that nothing stands in for: the device cannot be used.
    pub fn after(tests: &[Tested]) -> Result<Avoided, String> {
        let failed = tests.iter().filter(|test| !test.is_good()).map(|test| test.kernel.clone());
        let failed: BTreeSet<String> = failed.collect();
        let has_substitute = |kernel: &str| {
            let is_product = kernel.starts_with("linear_") && kernel != SINGLE;
            let is_span = kernel.starts_with("attention_1");
            let is_several = kernel == ROPE_STORE
                || [BY_NORM, BY_GATE].iter().any(|first| kernel.starts_with(first));
            is_product || is_span || is_several || kernel.starts_with("round_")
        };
        match failed.iter().find(|kernel| !has_substitute(kernel)) {
            Some(kernel) => Err(kernel.clone()),
            None => Ok(Avoided(failed)),
        }
    }

    /// Their names.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(super) fn has(&self, kernel: &str) -> bool {
        self.0.contains(kernel)
    }

    /// The kernel of attention for heads of so many elements.
    pub(super) fn attention(&self, head_dim: usize) -> &'static str {
        let fastest = launches::attention_kernel(head_dim);
        if self.has(fastest) { ATTENTION_ANY } else { fastest }
    }

    /// Whether matrices of a form are decoded instead of packed.
    pub(super) fn has_form(&self, form: &Form) -> bool {
        let bits = |bits| {
            self.has(&launches::product_kernel(form, bits, 1))
                || self.has(&format!("round_{}_{bits}", form.length))
        };
        bits(8) || bits(16)
    }
}

/// What any of several devices does without.
impl<'a> FromIterator<&'a Avoided> for Avoided {
    fn from_iter<I: IntoIterator<Item = &'a Avoided>>(all: I) -> Avoided {
        Avoided(all.into_iter().flat_map(|avoided| avoided.0.iter().cloned()).collect())
    }
}

/// Tests every kernel on a device: small work, that takes less than a second on a GPU.
///
/// # Errors
/// [`CudaError`] when the device fails, which is worse than what is wrong.
pub fn run(device: &Arc<Device>) -> Result<Vec<Tested>, CudaError> {
    let mut bench =
        Bench { device: Arc::clone(device), kernels: super::kernels(device)?, seed: SEED };
    let names: Vec<String> = bench.kernels.keys().cloned().collect();
    names
        .into_iter()
        .map(|kernel| {
            let (off, off_max) = bench.test(&kernel)?;
            Ok(Tested { kernel, off, off_max })
        })
        .collect()
}

const SEED: u64 = 20_261_201;

/// A device with its kernels, and random numbers for them.
struct Bench {
    device: Arc<Device>,
    kernels: BTreeMap<String, Kernel>,
    seed: u64,
}

/// How far a kernel is off, and may be.
type Off = Result<(f32, f32), CudaError>;

impl Bench {
    fn test(&mut self, kernel: &str) -> Off {
        match kernel {
            "rms_norm" => rows::rms_norm(self),
            "layer_norm" => rows::layer_norm(self),
            "head_norm" => rows::head_norm(self),
            "rope" => rows::rope(self),
            "kv_write" => rows::kv_write(self),
            ROPE_STORE => rows::rope_store(self),
            "gate" => rows::gate(self),
            "activate" => rows::activate(self),
            "add" => rows::add(self),
            "take_rows" => rows::take_rows(self),
            "attention_128" => attention::spans(self, kernel, 72),
            ATTENTION_ANY => attention::spans(self, kernel, 200),
            "attention_merge" => attention::merge(self),
            HALF => products::plain(self, true),
            SINGLE => products::plain(self, false),
            _ if kernel.starts_with("round_") => products::round(self, kernel),
            _ if kernel.starts_with(BY_NORM) => products::norm_round(self, kernel),
            _ if kernel.starts_with(BY_GATE) => products::gate_round(self, kernel),
            _ => products::packed(self, kernel),
        }
    }

    /// Numbers between -1 and 1.
    fn drawn(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.number(1 << 24) as f32 / (1 << 23) as f32) - 1.0).collect()
    }

    /// A number below a bound (xorshift64).
    fn number(&mut self, bound: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 16) % bound
    }

    fn upload<T: Plain>(&self, values: &[T]) -> Result<Memory<T>, CudaError> {
        self.device.upload(values)
    }

    /// Memory for results: no numbers, until a kernel writes them.
    fn room(&self, len: usize) -> Result<Memory<f32>, CudaError> {
        self.device.upload(&vec![f32::NAN; len])
    }

    fn launch(&self, launch: &Launch) -> Result<(), CudaError> {
        // SAFETY: every test gives its kernel memory of the sizes that it asks for.
        unsafe { super::launched(&self.kernels, launch) }
    }
}

fn read<T: Plain + Default>(memory: &Memory<T>) -> Result<Vec<T>, CudaError> {
    let mut values = vec![T::default(); memory.len()];
    memory.read(0, &mut values)?;
    Ok(values)
}

/// How far numbers are off, of the largest that is expected; infinite where one is none.
pub fn off(expected: &[f32], found: &[f32]) -> f32 {
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    let each = expected.iter().zip(found).map(|(expected, found)| (expected - found).abs());
    let counted = each.map(|off| if off.is_finite() { off } else { f32::INFINITY });
    counted.fold(0f32, f32::max) / largest
}

/// How many values are not what they should be, to the bit.
fn differing<T: PartialEq>(expected: &[T], found: &[T]) -> f32 {
    expected.iter().zip(found).filter(|(expected, found)| expected != found).count() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(kernel: &str, off: f32) -> Tested {
        Tested { kernel: kernel.to_owned(), off, off_max: 1e-5 }
    }

    #[test]
    fn slower_kernels_stand_in_where_there_are_any() {
        let q4_k = Form::of(models::dtype::DType::Q4_K, 256).unwrap();
        let q8_0 = Form::of(models::dtype::DType::Q8_0, 256).unwrap();
        let after = |kernel| Avoided::after(&[tested(kernel, 1.0), tested("add", 0.0)]);
        let many = after("linear_q4_k_8_4").unwrap();
        assert!(many.has("linear_q4_k_8_4") && !many.has_form(&q4_k));
        for kernel in ["linear_q4_k_8_1", "linear_q4_k_16_1", "round_256_8", "round_256_16"] {
            let avoided = after(kernel).unwrap();
            assert!(avoided.has_form(&q4_k) && !avoided.has_form(&q8_0), "{kernel}");
        }
        assert!(after("round_32_8").unwrap().has_form(&q8_0));
        for kernel in [ROPE_STORE, "rms_norm_round_32_8", "gate_round_32_8"] {
            let avoided = after(kernel).unwrap();
            assert!(avoided.has(kernel) && !avoided.has_form(&q8_0), "{kernel}");
        }
        assert_eq!(after("rms_norm"), Err("rms_norm".to_owned()));
        assert_eq!(after(SINGLE), Err(SINGLE.to_owned()));
        assert_eq!(after("attention_128").unwrap().attention(64), ATTENTION_ANY);
        assert_eq!(Avoided::default().attention(64), "attention_128");
        assert_eq!(after(ATTENTION_ANY), Err(ATTENTION_ANY.to_owned()));
        assert_eq!(after("attention_merge"), Err("attention_merge".to_owned()));
        assert_eq!(Avoided::after(&[tested("add", 1e-5)]), Ok(Avoided::default()));
    }

    #[test]
    fn what_is_no_number_is_far_off() {
        assert_eq!(off(&[1.0, -4.0], &[1.0, -3.0]), 0.25);
        assert_eq!(off(&[1.0, 2.0, 3.0], &[1.0, f32::NAN, 3.0]), f32::INFINITY);
        assert_eq!(off(&[1.0, 2.0], &[f32::INFINITY, 2.0]), f32::INFINITY);
        assert_eq!(differing(&[1, 2, 3], &[1, 3, 2]), 2.0);
    }
}
