//! Where models are computed: on a GPU where there is one that this program has kernels for, else
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
    gpu: Option<Arc<Device>>,
    settings: cuda::Settings,
    told: String,
}

impl Place {
    /// The CPU, for what computes nothing.
    pub fn cpu() -> Place {
        let settings = cuda::Settings::default();
        Place { gpu: None, settings, told: "the CPU".to_owned() }
    }

    /// Looks for a GPU, unless the configuration wants none.
    ///
    /// # Errors
    /// When there is one that cannot be taken into use, or the configuration wants one and there is
    /// none.
    pub fn choose(config: &Config, clock: &Clock) -> Result<Place, Failure> {
        if config.device == DeviceChoice::Cpu {
            return Ok(Place { told: "the CPU, as it is configured".to_owned(), ..Place::cpu() });
        }
        let found = Found::look();
        let why_not = match &found {
            Found::Devices(devices) => match (best(devices), images::are_there()) {
                (Some(device), true) => match Place::on(device, &config.state_dir, clock) {
                    Err(failure) if config.device == DeviceChoice::Auto => {
                        tracing::error!("{failure}");
                        format!("{found} is not used, see the log")
                    }
                    tried => return tried,
                },
                (Some(_), false) => format!(
                    "{found} is not used: this program was built without CUDA kernels, run \
                     scripts/kernels and build it again"
                ),
                (None, _) => found.to_string(),
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

    /// The GPU that models would be computed on.
    ///
    /// # Errors
    /// When there is none that this program has kernels for.
    pub fn device() -> Result<Arc<Device>, Failure> {
        let found = Found::look();
        let none = Failure::new(format!("no GPU to compute on: {found}"));
        match &found {
            Found::Devices(devices) => {
                Device::open(best(devices).ok_or(none)?).map_err(Failure::new)
            }
            _ => Err(none),
        }
    }

    fn on(info: &DeviceInfo, state_dir: &Path, clock: &Clock) -> Result<Place, Failure> {
        let name = Found::Devices(vec![info.clone()]).to_string();
        let failed = |failure: Failure| failure.of(&name).hint(WITHOUT);
        let broken = |error: ComputeError| failed(Failure::new(error));
        let gpu = Device::open(info).map_err(|error| broken(error.into()))?;
        let proof = gpu_test::proof(&gpu, state_dir, clock).map_err(|failure| failure.of(&name))?;
        let settings = cuda::Settings { avoided: proof.avoided, ..cuda::Settings::default() };
        let off = off_by(&gpu, &settings).map_err(broken)?;
        if off > OFF_MAX {
            let error = format!("{name} computes wrongly: it is off by {off:.1e} of the CPU");
            return Err(Failure::new(error)
                .hint("the GPU or its driver is damaged, or this program's kernels are"));
        }
        Ok(Place { gpu: Some(gpu), settings, told: format!("{name}; {}", proof.told) })
    }

    /// For people.
    pub fn told(&self) -> &str {
        &self.told
    }

    /// The GPU, where it is the one to compute this plan.
    pub fn gpu_for(&self, plan: &Plan) -> Option<&Arc<Device>> {
        self.gpu.as_ref().filter(|_| Cuda::fits(plan))
    }

    /// How models are computed on it.
    pub fn settings(&self) -> &cuda::Settings {
        &self.settings
    }

    /// Bytes for weights, keys and values of all models together.
    ///
    /// # Errors
    /// When the GPU cannot be asked.
    pub fn memory_bytes(&self, config: &Config) -> Result<u64, Failure> {
        let Some(gpu) = &self.gpu else { return Ok(config.memory_bytes()) };
        let free = gpu.free_bytes().map_err(Failure::new)? as u64 / 100 * SHARE_PERCENT;
        Ok(config.memory_limit_bytes().map_or(free, |limit| limit.min(free)))
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

/// The one with the most memory among those that kernels are made for.
fn best(devices: &[DeviceInfo]) -> Option<&DeviceInfo> {
    let can = devices.iter().filter(|device| device.capability >= CAPABILITY_LEAST);
    // The first of equals.
    can.rev().max_by_key(|device| device.memory_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpu_with_the_most_memory_is_chosen() {
        let device = |ordinal, major, gib: usize| DeviceInfo {
            ordinal,
            name: String::new(),
            uuid: String::new(),
            capability: (major, 0),
            memory_bytes: gib << 30,
            multiprocessors: 1,
        };
        let chosen = |devices: &[DeviceInfo]| best(devices).map(|device| device.ordinal);
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[device(0, 7, 32)]), None);
        assert_eq!(chosen(&[device(0, 7, 32), device(1, 8, 16)]), Some(1));
        assert_eq!(chosen(&[device(0, 9, 80), device(1, 9, 80), device(2, 9, 40)]), Some(0));
    }
}
