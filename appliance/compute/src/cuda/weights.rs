//! Weights in a device's memory.

use std::sync::Arc;

use models::dtype::DType;
use models::plan::Plan;
use models::weights::{Weight, Weights};

use super::driver::{Device, Memory};
use super::launches::HALF;
use super::pack::{COLUMNS, Form, ROWS};
use super::self_test::Avoided;
use super::share::Share;
use crate::ComputeError;
use crate::reference::linear::{Stored, floats};
use crate::tables;

/// Of a matrix, packed before it is written to the device.
const SPAN_BYTES: usize = 32 << 20;

/// A weight as its steps use it.
pub(super) enum Loaded {
    /// A norm's weight or a bias.
    Vector(Memory<f32>),
    /// A product's matrix.
    Matrix(Matrix),
    /// A table whose rows are taken one by one, where the file is mapped.
    Table(Stored),
    /// The head, which the stage holds itself, and what other stages have.
    Elsewhere,
}

/// A product's matrix.
pub(super) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub kept: Kept,
}

/// How a matrix is kept.
pub(super) enum Kept {
    /// In tiles.
    Packed(Form, Memory<u8>),
    /// As half-precision numbers.
    Half(Memory<u16>),
    /// As numbers: what has neither form nor half precision.
    Single(Memory<f32>),
}

impl Matrix {
    fn load(
        device: &Arc<Device>,
        weight: &Weight<'_>,
        avoided: &Avoided,
        release: impl Fn(usize),
    ) -> Result<Matrix, ComputeError> {
        let (rows, columns) = (weight.shape[0], weight.shape[1]);
        let form = Form::of(weight.dtype, columns).filter(|form| !avoided.has_form(form));
        let kept = match (form, weight.dtype) {
            (Some(form), _) => Kept::Packed(form, packed(device, weight, form, release)?),
            (None, DType::F16) if !avoided.has(HALF) => {
                let half = |bytes: &[u8; 2]| u16::from_le_bytes(*bytes);
                let values: Vec<u16> = weight.bytes.as_chunks().0.iter().map(half).collect();
                Kept::Half(device.upload(&values)?)
            }
            (None, _) => Kept::Single(device.upload(&floats(weight))?),
        };
        Ok(Matrix { rows, columns, kept })
    }

    /// Columns that have a scale of the inputs; none where inputs are not rounded.
    pub fn length(&self) -> Option<usize> {
        match &self.kept {
            Kept::Packed(form, _) => Some(form.length),
            Kept::Half(_) | Kept::Single(_) => None,
        }
    }

    /// Columns of whole tiles.
    pub fn padded(&self) -> usize {
        self.columns.next_multiple_of(COLUMNS)
    }
}

/// Packs a matrix by all cores and writes it to the device, some of it at a time: what was packed
/// is let go of, in the file too.
fn packed(
    device: &Arc<Device>,
    weight: &Weight<'_>,
    form: Form,
    release: impl Fn(usize),
) -> Result<Memory<u8>, ComputeError> {
    let (rows, columns) = (weight.shape[0], weight.shape[1]);
    let groups = rows.div_ceil(ROWS);
    let group_bytes = columns.div_ceil(COLUMNS) * form.tile_bytes;
    let file_bytes = weight.bytes.len() / rows * ROWS;
    let mut memory = device.memory(form.bytes(rows, columns))?;
    let span = (SPAN_BYTES / group_bytes).max(1);
    let mut tiles = vec![0; span.min(groups) * group_bytes];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for first in (0..groups).step_by(span) {
        let count = span.min(groups - first);
        let tiles = &mut tiles[..count * group_bytes];
        let each = count.div_ceil(threads);
        std::thread::scope(|scope| {
            for (part, tiles) in tiles.chunks_mut(each * group_bytes).enumerate() {
                scope.spawn(move || {
                    for (i, tiles) in tiles.chunks_exact_mut(group_bytes).enumerate() {
                        let group = first + part * each + i;
                        form.pack_group(weight.dtype, weight.bytes, columns, group, tiles);
                    }
                });
            }
        });
        memory.write(first * group_bytes, tiles)?;
        release(((first + count) * file_bytes).min(weight.bytes.len()));
    }
    Ok(memory)
}

/// The weights of a share, and the head's matrix where the head is in it.
pub(super) fn load(
    share: &Share,
    plan: &Plan,
    file: &Weights,
    avoided: &Avoided,
    progress: &mut dyn FnMut(u64),
) -> Result<(Vec<Loaded>, Option<Matrix>), ComputeError> {
    let device = &share.device;
    let (tables, wanted) = (tables::tables(plan), share.weights(plan));
    let projection = plan.head.projection.as_ref().map(|projection| projection.weight.0);
    let mut done = 0;
    let mut loaded = Vec::with_capacity(plan.weights.len());
    let matrix = |name: &str| -> Result<Matrix, ComputeError> {
        let weight = file.tensor(name)?;
        Matrix::load(device, &weight, avoided, |bytes| file.unused(name, bytes))
    };
    for (index, info) in plan.weights.iter().enumerate() {
        let weight = file.tensor(&info.name)?;
        loaded.push(match info.shape.len() {
            _ if !wanted.contains(&index) => Loaded::Elsewhere,
            _ if tables.contains(&index) => Loaded::Table(Stored::new(file.clone(), &info.name)?),
            _ if projection == Some(index) => Loaded::Elsewhere,
            1 => Loaded::Vector(device.upload(&floats(&weight))?),
            _ => Loaded::Matrix(matrix(&info.name)?),
        });
        if wanted.contains(&index) {
            done += weight.bytes.len() as u64;
            progress(done);
        }
    }
    let head = projection.filter(|_| share.has_head(plan));
    let head = head.map(|index| matrix(&plan.weights[index].name)).transpose()?;
    Ok((loaded, head))
}
