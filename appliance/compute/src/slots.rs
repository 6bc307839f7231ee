//! The activations of a step: what a plan's slots hold, a row for each row of the batch. All
//! executors on the CPU keep them like this.

use models::plan::Plan;

use crate::batch::Hidden;

/// From here on the slots hold these of their rows alone; ascending.
pub(crate) fn keep_rows(
    slots: &mut [Vec<f32>],
    plan: &Plan,
    rows: impl ExactSizeIterator<Item = u32> + Clone,
) {
    for (slot, info) in slots.iter_mut().zip(&plan.slots) {
        for (to, from) in rows.clone().enumerate() {
            let from = from as usize * info.width;
            slot.copy_within(from..from + info.width, to * info.width);
        }
        slot.truncate(rows.len() * info.width);
    }
}

/// The hidden rows of these rows.
pub(crate) fn hidden(
    slots: &[Vec<f32>],
    plan: &Plan,
    rows: impl ExactSizeIterator<Item = u32>,
) -> Hidden {
    let slot = plan.head.hidden;
    let (width, from) = (plan.width(slot), &slots[slot.0]);
    let mut values = Vec::with_capacity(rows.len() * width);
    for row in rows {
        values.extend_from_slice(&from[row as usize * width..(row as usize + 1) * width]);
    }
    Hidden { width, values }
}
