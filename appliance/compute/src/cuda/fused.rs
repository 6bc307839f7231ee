//! Steps of a plan that are launched as one kernel where there is one that does all of them: a
//! launch takes longer than what most steps compute of a few rows. Results are those of the steps
//! by themselves, to the bit.

use models::plan::{CacheId, LinearPart, RopeId, Slot, Step};

/// One launch, or what belongs to a product.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fused {
    /// A step by itself.
    One(Step),
    /// Queries and keys are turned, and keys stored with values.
    RopeStore {
        rope: RopeId,
        head_dim: usize,
        queries: Slot,
        keys: Slot,
        values: Slot,
        cache: CacheId,
    },
    /// Products.
    Linear {
        /// The norm or the gate that makes their input, which is rounded in the same launch.
        before: Option<Step>,
        input: Slot,
        parts: Vec<LinearPart>,
        /// Where the only product is added, instead of being kept.
        into: Option<Slot>,
    },
}

/// Whether a step can round the input of these products.
pub(super) type CanRound<'a> = dyn Fn(&Step, &[LinearPart]) -> bool + 'a;

/// Fuses steps; `after` are those that come later, and may read what these leave, as `last` is read
/// at the end.
pub(super) fn fuse(
    steps: &[Step],
    (after, last): (&[Step], Slot),
    (has_rope_store, can_round): (bool, &CanRound<'_>),
) -> Vec<Fused> {
    let (mut fused, mut rest) = (Vec::new(), steps);
    while let Some((first, later)) = rest.split_first() {
        if let Some(all) = rope_store(rest).filter(|_| has_rope_store) {
            fused.push(all);
            rest = &rest[3..];
            continue;
        }
        let (before, linear) = match later.first() {
            Some(linear @ Step::Linear { input, parts })
                if makes(first, *input) && can_round(first, parts) =>
            {
                (Some(first.clone()), linear)
            }
            _ => (None, first),
        };
        rest = if before.is_some() { &later[1..] } else { later };
        let Step::Linear { input, parts } = linear else {
            fused.push(Fused::One(first.clone()));
            continue;
        };
        let into = added(*input, parts, rest, (after, last));
        if into.is_some() {
            rest = &rest[1..];
        }
        fused.push(Fused::Linear { before, input: *input, parts: parts.clone(), into });
    }
    fused
}

/// Whether a step is a norm or a gate that makes a slot, and can round it.
fn makes(step: &Step, slot: Slot) -> bool {
    match step {
        Step::RmsNorm { out, .. } | Step::Gate { out, .. } => *out == slot,
        _ => false,
    }
}

/// The first three steps, where they turn queries and keys alike and store these.
fn rope_store(steps: &[Step]) -> Option<Fused> {
    match *steps {
        [
            Step::Rope { rope, slot: queries, head_dim },
            Step::Rope { rope: other, slot: turned, head_dim: other_dim },
            Step::KvWrite { keys, values, cache },
            ..,
        ] if rope == other && head_dim == other_dim && turned == keys && queries != keys => {
            Some(Fused::RopeStore { rope, head_dim, queries, keys, values, cache })
        }
        _ => None,
    }
}

/// Where the only product is added by the next step, if nobody reads the product itself.
fn added(
    input: Slot,
    parts: &[LinearPart],
    rest: &[Step],
    (after, last): (&[Step], Slot),
) -> Option<Slot> {
    let ([part], Some((Step::Add { input: product, into }, later))) = (parts, rest.split_first())
    else {
        return None;
    };
    // Who computes a row's products reads rows of the input that others compute with.
    let is_apart = *product == part.out && *into != part.out && *into != input;
    let is_read = later
        .iter()
        .chain(after)
        .find_map(|step| {
            let is_read = step.reads().contains(product);
            (is_read || step.writes().contains(product)).then_some(is_read)
        })
        .unwrap_or(*product == last);
    (is_apart && !is_read).then_some(*into)
}

#[cfg(test)]
mod tests {
    use models::plan::{Activation, WeightId};

    use super::*;

    const X: Slot = Slot(0);
    const NORMED: Slot = Slot(1);
    const QUERIES: Slot = Slot(2);
    const KEYS: Slot = Slot(3);
    const PRODUCT: Slot = Slot(4);

    fn part(out: Slot) -> LinearPart {
        LinearPart { weight: WeightId(0), bias: None, out }
    }

    fn norm() -> Step {
        Step::RmsNorm { weight: WeightId(1), input: X, out: NORMED, eps: 1e-5 }
    }

    fn linear(input: Slot, outs: &[Slot]) -> Step {
        Step::Linear { input, parts: outs.iter().map(|out| part(*out)).collect() }
    }

    fn add(input: Slot, into: Slot) -> Step {
        Step::Add { input, into }
    }

    fn rope(slot: Slot, head_dim: usize) -> Step {
        Step::Rope { rope: RopeId(0), slot, head_dim }
    }

    fn all(steps: &[Step], after: &[Step]) -> Vec<Fused> {
        fuse(steps, (after, X), (true, &|_, _| true))
    }

    fn product(before: Option<Step>, input: Slot, outs: &[Slot], into: Option<Slot>) -> Fused {
        let parts = outs.iter().map(|out| part(*out)).collect();
        Fused::Linear { before, input, parts, into }
    }

    #[test]
    fn a_layer_is_few_launches() {
        let store = Step::KvWrite { keys: KEYS, values: PRODUCT, cache: CacheId(0) };
        let gate =
            Step::Gate { activation: Activation::Silu, gate: QUERIES, up: KEYS, out: NORMED };
        let steps = [
            norm(),
            linear(NORMED, &[QUERIES, KEYS, PRODUCT]),
            rope(QUERIES, 64),
            rope(KEYS, 64),
            store.clone(),
            gate.clone(),
            linear(NORMED, &[PRODUCT]),
            add(PRODUCT, X),
        ];
        let after = [norm(), linear(NORMED, &[PRODUCT])];
        let (queries, keys, values, cache) = (QUERIES, KEYS, PRODUCT, CacheId(0));
        let stored =
            Fused::RopeStore { rope: RopeId(0), head_dim: 64, queries, keys, values, cache };
        let expected = [
            product(Some(norm()), NORMED, &[QUERIES, KEYS, PRODUCT], None),
            stored,
            product(Some(gate.clone()), NORMED, &[PRODUCT], Some(X)),
        ];
        assert_eq!(all(&steps, &after), expected);
        let mut apart = steps.clone().map(Fused::One).to_vec();
        apart[1] = product(None, NORMED, &[QUERIES, KEYS, PRODUCT], None);
        apart[6] = product(None, NORMED, &[PRODUCT], Some(X));
        apart.remove(7);
        assert_eq!(fuse(&steps, (&after, X), (false, &|_, _| false)), apart);
    }

    #[test]
    fn what_somebody_reads_later_is_kept() {
        let steps = [linear(X, &[PRODUCT]), add(PRODUCT, NORMED)];
        let is_added = |after: &[Step]| all(&steps, after).len() == 1;
        assert!(is_added(&[linear(X, &[PRODUCT]), add(PRODUCT, X)]));
        assert!(!is_added(&[add(PRODUCT, X), linear(X, &[PRODUCT])]));
        // Nobody does, or who takes the hidden rows does.
        assert!(is_added(&[norm()]));
        assert_eq!(fuse(&steps, (&[], PRODUCT), (true, &|_, _| true)).len(), 2);
        // Others still read the input.
        let own = [linear(X, &[PRODUCT]), add(PRODUCT, X)];
        assert_eq!(all(&own, &[linear(X, &[PRODUCT])]).len(), 2);
        let two = [linear(X, &[PRODUCT, KEYS]), add(PRODUCT, NORMED)];
        assert_eq!(all(&two, &[linear(X, &[PRODUCT])]).len(), 2);
    }

    #[test]
    fn turns_of_another_kind_are_launched_by_themselves() {
        let store = |keys| Step::KvWrite { keys, values: PRODUCT, cache: CacheId(0) };
        assert_eq!(all(&[rope(QUERIES, 64), rope(KEYS, 64), store(KEYS)], &[]).len(), 1);
        assert_eq!(all(&[rope(QUERIES, 64), rope(KEYS, 32), store(KEYS)], &[]).len(), 3);
        assert_eq!(all(&[rope(QUERIES, 64), rope(KEYS, 64), store(PRODUCT)], &[]).len(), 3);
        assert_eq!(all(&[rope(KEYS, 64), store(KEYS)], &[]).len(), 2);
    }
}
