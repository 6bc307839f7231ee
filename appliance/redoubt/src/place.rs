//! Where models are computed: on GPUs where there are some that this program has kernels for, else
//! on the CPU. Which it is, and why, is told at the start and in the status. A GPU's kernels are
//! tested at its first start, and it has to compute the drill model as the CPU does at every one,
//! before anything is computed on it.

use std::path::Path;
use std::sync::Arc;

use compute::ComputeError;
use compute::batch::{Batch, Row};
use compute::cpu::{self, Cpu};
use compute::cuda::driver::{CAPABILITY_LEAST, Device};
use compute::cuda::found::{DeviceInfo, Found};
use compute::cuda::self_test::Avoided;
use compute::cuda::{self, Cuda, images, self_test};
use compute::executor::Executor;
use ledger::Clock;
use models::plan::Plan;

use crate::config::{Config, DeviceChoice};
use crate::drill;
use crate::failure::Failure;
use crate::gpu_test;

/// Of a GPU's free memory, what models get; the rest is for what steps compute, and for others.
const SHARE_PERCENT: u64 = 90;
/// Rows of the drill model that a GPU computes as the CPU does, or is not used.
const TESTED_LEN: u32 = 20;
/// How far it may be off: both round alike, and sum in other orders.
const OFF_MAX: f32 = 2e-3;

const WITHOUT: &str = "'device = \"cpu\"' in the configuration does without the GPU";

/// Where models are computed.
#[derive(Clone)]
pub struct Place {
    /// In the driver's order; none where the CPU computes.
    gpus: Vec<Arc<Device>>,
    settings: cuda::Settings,
    told: String,
}

/// A GPU that can be computed on.
struct Tried {
    gpu: Arc<Device>,
    avoided: Avoided,
    told: String,
}

impl Place {
    /// The CPU, for what computes nothing.
    pub fn cpu() -> Place {
        let settings = cuda::Settings::default();
        Place { gpus: Vec::new(), settings, told: "the CPU".to_owned() }
    }

    /// Looks for GPUs, unless the configuration wants none.
    ///
    /// # Errors
    /// When the configuration wants one and there is none that can be computed on.
    pub fn choose(config: &Config, clock: &Clock) -> Result<Place, Failure> {
        if config.device == DeviceChoice::Cpu {
            return Ok(Place { told: "the CPU, as it is configured".to_owned(), ..Place::cpu() });
        }
        let found = Found::look();
        let why_not = match &found {
            Found::Devices(_) if !images::are_there() => format!(
                "{found} is not used: this program was built without CUDA kernels, run \
                 scripts/kernels and build it again"
            ),
            Found::Devices(devices) => match Place::on(devices, config, clock)? {
                Some(place) => return Ok(place),
                None if able(devices).next().is_none() => found.to_string(),
                None => format!("{found} is not used, see the log"),
            },
            _ => found.to_string(),
        };
        if config.device == DeviceChoice::Cuda {
            return Err(Failure::new(format!("models are to be computed on a GPU: {why_not}"))
                .hint(
                    "leave 'device' out of the configuration to have the CPU where there is none",
                ));
        }
        Ok(Place { told: format!("the CPU ({why_not})"), ..Place::cpu() })
    }

    /// All GPUs that this program has kernels for.
    ///
    /// # Errors
    /// When there is none, or one cannot be taken into use.
    pub fn devices() -> Result<Vec<Arc<Device>>, Failure> {
        let found = Found::look();
        let infos = if let Found::Devices(infos) = &found { &infos[..] } else { &[] };
        let opened = able(infos).map(|info| Device::open(info).map_err(Failure::new));
        match opened.collect::<Result<Vec<_>, Failure>>()? {
            none if none.is_empty() => Err(Failure::new(format!("no GPU to compute on: {found}"))),
            devices => Ok(devices),
        }
    }

    /// Those of these GPUs that can be computed on; none where there is none. What is wrong with
    /// one goes to the log, or is the error where the configuration wants a GPU and has no other.
    fn on(
        devices: &[DeviceInfo],
        config: &Config,
        clock: &Clock,
    ) -> Result<Option<Place>, Failure> {
        let (mut tried, mut failed) = (Vec::new(), Vec::new());
        for info in able(devices) {
            match Tried::on(info, &config.state_dir, clock) {
                Ok(good) => tried.push(good),
                Err(failure) => failed.push(failure),
            }
        }
        if tried.is_empty() && config.device == DeviceChoice::Cuda && !failed.is_empty() {
            return Err(failed.remove(0));
        }
        failed.iter().for_each(|failure| tracing::error!("{failure}"));
        if tried.is_empty() {
            return Ok(None);
        }
        let mut told: Vec<String> = tried.iter().map(|tried| tried.told.clone()).collect();
        if !failed.is_empty() {
            told.push(format!("{} not used, see the log", failed.len()));
        }
        let avoided = tried.iter().map(|tried| &tried.avoided).collect();
        let settings = cuda::Settings { avoided, ..cuda::Settings::default() };
        let gpus = tried.into_iter().map(|tried| tried.gpu).collect();
        Ok(Some(Place { gpus, settings, told: told.join("; ") }))
    }

    /// For people.
    pub fn told(&self) -> &str {
        &self.told
    }

    /// The GPUs, where they are to compute this plan.
    pub fn gpus_for(&self, plan: &Plan) -> &[Arc<Device>] {
        if Cuda::fits(plan) { &self.gpus } else { &[] }
    }

    /// How models are computed on them.
    pub fn settings(&self) -> &cuda::Settings {
        &self.settings
    }

    /// Bytes for weights, keys and values of all models together.
    ///
    /// # Errors
    /// When a GPU cannot be asked.
    pub fn memory_bytes(&self, config: &Config) -> Result<u64, Failure> {
        if self.gpus.is_empty() {
            return Ok(config.memory_bytes());
        }
        let free = self.gpus.iter().map(|gpu| gpu.free_bytes().map_err(Failure::new));
        let free = free.sum::<Result<usize, Failure>>()? as u64 / 100 * SHARE_PERCENT;
        Ok(config.memory_limit_bytes().map_or(free, |limit| limit.min(free)))
    }
}

impl Tried {
    fn on(info: &DeviceInfo, state_dir: &Path, clock: &Clock) -> Result<Tried, Failure> {
        let name = Found::Devices(vec![info.clone()]).to_string();
        let broken = |error: ComputeError| Failure::new(error).of(&name).hint(WITHOUT);
        let gpu = Device::open(info).map_err(|error| broken(error.into()))?;
        let proof = gpu_test::proof(&gpu, state_dir, clock).map_err(|failure| failure.of(&name))?;
        let avoided = proof.avoided;
        let settings = cuda::Settings { avoided: avoided.clone(), ..cuda::Settings::default() };
        let off = off_by(&gpu, &settings).map_err(broken)?;
        if off.is_nan() || off > OFF_MAX {
            let error = format!("{name} computes wrongly: it is off by {off:.1e} of the CPU");
            return Err(Failure::new(error)
                .hint("the GPU or its driver is damaged, or this program's kernels are"));
        }
        Ok(Tried { gpu, avoided, told: format!("{name}; {}", proof.told) })
    }
}

/// How far the drill model's logits are from the CPU's, against the largest of them.
fn off_by(gpu: &Arc<Device>, settings: &cuda::Settings) -> Result<f32, ComputeError> {
    let weights = drill::weights();
    let plan = models::family::plan(&weights).expect("the drill model has a plan");
    let mut none = |_| ();
    let table: [u32; 2] = [1, 0];
    let cpu = Cpu::load(&plan, &weights, cpu::Settings::default(), table.len(), &mut none)?;
    let cuda = Cuda::load(gpu, &plan, &weights, settings, table.len(), &mut none)?;
    // More rows than one tile of them has, then one alone.
    let row = |position: u32| Row { token: 300 + 7 * position, position, sequence: 0 };
    let rows: Vec<Row> = (0..TESTED_LEN).map(row).collect();
    let run = |mut model: Box<dyn Executor>| -> Result<Vec<f32>, ComputeError> {
        let mut logits = Vec::new();
        for rows in [&rows[..rows.len() - 1], &rows[rows.len() - 1..]] {
            let outputs: Vec<u32> = (0..rows.len() as u32).collect();
            let batch = Batch { rows, tables: &[&table], outputs: &outputs, hidden: &[] };
            logits.extend(model.step(&batch)?.logits.values);
        }
        Ok(logits)
    };
    let (expected, found) = (run(Box::new(cpu))?, run(Box::new(cuda))?);
    Ok(self_test::off(&expected, &found))
}

/// Those that kernels are made for.
fn able(devices: &[DeviceInfo]) -> impl Iterator<Item = &DeviceInfo> {
    devices.iter().filter(|device| device.capability >= CAPABILITY_LEAST)
}
