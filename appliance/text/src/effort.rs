//! What values cost. `minijinja` charges fuel for instructions and for what they return, not for
//! the parts of a value that an operation walks: ten nested pairs print as a thousand items. What
//! walks a value pays here first, part by part, as often as each part is met.

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use crate::python;

/// Deepest value that is printed, compared or sorted. Walks of deeper ones could overflow the
/// stack.
const DEPTH_MAX: usize = 2_000;
/// What building a list, tuple or mapping costs, beside its items. It bounds how deep values can
/// nest at all, and with it the stack that dropping them takes.
const CONTAINER_FUEL: u64 = 24;
/// Bytes that one unit of fuel pays for, as in `minijinja`.
const BYTES_PER_FUEL: usize = 64;
/// Items that one unit of fuel pays for.
const ITEMS_PER_FUEL: usize = 2;

/// Pays for `count` items.
pub(crate) fn charge_items(state: &State, count: usize) -> Result<(), Error> {
    state.consume_fuel(count.div_ceil(ITEMS_PER_FUEL) as u64)
}

/// Pays for `count` bytes of text.
pub(crate) fn charge_bytes(state: &State, count: usize) -> Result<(), Error> {
    state.consume_fuel((count / BYTES_PER_FUEL) as u64)
}

/// Pays for a new list, tuple or mapping.
pub(crate) fn charge_container(state: &State, items: usize) -> Result<(), Error> {
    state.consume_fuel(CONTAINER_FUEL + items as u64)
}

/// Pays for every part of a value.
pub(crate) fn charge_walk(state: &State, value: &Value) -> Result<(), Error> {
    walk(state, value, 0)
}

fn walk(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        return charge_bytes(state, text.len());
    }
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    if depth > DEPTH_MAX {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value nests too deep"));
    }
    match value.kind() {
        ValueKind::Map => {
            for (key, item) in object.try_iter_pairs().into_iter().flatten() {
                state.consume_fuel(1)?;
                walk(state, &key, depth + 1)?;
                walk(state, &item, depth + 1)?;
            }
        }
        _ => {
            for item in object.try_iter().into_iter().flatten() {
                state.consume_fuel(1)?;
                walk(state, &item, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// Pays for every part of what is given to a function that walks it all.
pub(crate) fn charge_arguments(state: &State, arguments: &[Value]) -> Result<(), Error> {
    arguments.iter().try_for_each(|argument| charge_walk(state, argument))
}

/// A sequence as a list of its own, paid for. `minijinja` adds, repeats, cuts and reverses lazily:
/// each result would hold the one before, and one step over it would take as many as there were.
pub(crate) fn materialized(state: &State, value: Value) -> Result<Value, Error> {
    let lazy = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
        && value.downcast_object_ref::<Vec<Value>>().is_none()
        && !value.is_tuple();
    if !lazy {
        return Ok(value);
    }
    charge_container(state, value.len().unwrap_or(0) / ITEMS_PER_FUEL)?;
    let mut items = Vec::new();
    for item in value.try_iter()?.checked() {
        if value.len().is_none() {
            state.consume_fuel(1)?;
        }
        items.push(item?);
    }
    Ok(Value::from(items))
}

/// Whether a value may stand in a list, a mapping or a namespace. Namespaces, loops and macros may
/// not: they can lead back to where they stand, and a circle is never freed.
pub(crate) fn check_storable(value: &Value) -> Result<(), Error> {
    let storable = match value.kind() {
        ValueKind::Map => is_plain_map(value),
        ValueKind::Plain => value.downcast_object_ref::<python::Float>().is_some(),
        _ => true,
    };
    match storable {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::InvalidOperation,
            "a namespace, loop or macro cannot be stored in a value",
        )),
    }
}

fn is_plain_map(value: &Value) -> bool {
    let map = Value::from_pairs([("", 0)]);
    let name = |value: &Value| value.as_object().map(|object| object.type_name());
    name(value) == name(&map)
}

/// Keys are text or numbers, as what can be hashed in Python is, tuples apart.
pub(crate) fn check_key(key: &Value) -> Result<(), Error> {
    match key.as_object() {
        None => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::InvalidOperation, "a key must be text or a number")),
    }
}

/// Takes the place of `minijinja`'s filters and tests that walk what they are given.
pub(crate) fn install(environment: &mut Environment<'static>) {
    for name in ["chain", "zip", "pprint", "groupby", "urlencode"] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    let walking = [
        ("string", Value::from_function(filters::string)),
        ("join", Value::from_function(filters::join)),
        ("upper", Value::from_function(filters::upper)),
        ("lower", Value::from_function(filters::lower)),
        ("title", Value::from_function(filters::title)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("sort", Value::from_function(filters::sort)),
        ("unique", Value::from_function(filters::unique)),
        ("min", Value::from_function(filters::min)),
        ("max", Value::from_function(filters::max)),
        ("sum", Value::from_function(filters::sum)),
        ("escape", Value::from_function(filters::escape)),
        ("e", Value::from_function(filters::escape)),
        ("safe", Value::from_function(filters::safe)),
        ("format", Value::from_function(filters::format)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("split", Value::from_function(filters::split)),
        ("lines", Value::from_function(filters::lines)),
    ];
    for (name, filter) in walking {
        environment.add_filter(name, move |state: &mut State, given: Rest<ValueOrKwargs>| {
            let arguments = given.into_values();
            charge_arguments(state, &arguments)?;
            if matches!(name, "split" | "lines") {
                charge_pieces(state, &arguments)?;
            }
            let result = filter.call(state, &arguments)?;
            materialized(state, result)
        });
    }
    let nesting = [
        ("batch", Value::from_function(filters::batch)),
        ("slice", Value::from_function(filters::slice)),
        ("reverse", Value::from_function(filters::reverse)),
    ];
    for (name, filter) in nesting {
        environment.add_filter(name, move |state: &mut State, given: Rest<ValueOrKwargs>| {
            let arguments = given.into_values();
            let items = arguments.first().and_then(Value::len).unwrap_or(0);
            charge_container(state, CONTAINER_FUEL as usize * items)?;
            let result = filter.call(state, &arguments)?;
            materialized(state, result)
        });
    }
    for (names, compare) in COMPARISONS {
        for name in *names {
            environment.add_test(*name, move |state: &mut State, a: Value, b: Value| {
                charge_comparison(state, &a, &b)?;
                Ok::<bool, Error>(compare(&a, &b))
            });
        }
    }
    environment.add_test("in", |state: &mut State, a: Value, b: Value| contains(state, &b, &a));
}

/// Pays for the pieces of a text, before it is cut.
pub(crate) fn charge_pieces(state: &State, arguments: &[Value]) -> Result<(), Error> {
    let text = arguments.first().and_then(Value::as_str).unwrap_or_default();
    let pieces = match arguments.get(1).and_then(Value::as_str) {
        Some(separator) => text.matches(separator).count(),
        None => text.split_whitespace().count().max(text.matches('\n').count()),
    };
    charge_items(state, pieces)
}

type Compare = fn(&Value, &Value) -> bool;

/// The comparisons, by the names of the tests.
pub(crate) const COMPARISONS: &[(&[&str], Compare)] = &[
    (&["eq", "equalto", "=="], |a, b| a == b),
    (&["ne", "!="], |a, b| a != b),
    (&["lt", "lessthan", "<"], |a, b| a < b),
    (&["le", "<="], |a, b| a <= b),
    (&["gt", "greaterthan", ">"], |a, b| a > b),
    (&["ge", ">="], |a, b| a >= b),
];

/// Pays for a comparison: it walks both sides where both have parts.
pub(crate) fn charge_comparison(state: &State, a: &Value, b: &Value) -> Result<(), Error> {
    match (a.as_object(), b.as_object()) {
        (Some(_), Some(_)) => charge_walk(state, a).and_then(|()| charge_walk(state, b)),
        _ => charge_bytes(state, a.as_str().map_or(0, str::len)),
    }
}

/// `value in container`.
pub(crate) fn contains(state: &State, container: &Value, value: &Value) -> Result<bool, Error> {
    if container.is_undefined() {
        return Ok(false);
    }
    if let Some(text) = container.as_str() {
        charge_bytes(state, text.len())?;
        charge_walk(state, value)?;
        return Ok(match value.as_str() {
            Some(part) => text.contains(part),
            None => text.contains(&value.to_string()),
        });
    }
    let Some(object) = container.as_object() else {
        return Err(Error::new(ErrorKind::InvalidOperation, "'in' needs text or a container"));
    };
    match container.kind() {
        ValueKind::Map => check_key(value).map(|()| object.get_value(value).is_some()),
        ValueKind::Seq | ValueKind::Iterable => {
            for item in object.try_iter().into_iter().flatten() {
                state.consume_fuel(1)?;
                charge_comparison(state, &item, value)?;
                if item == *value {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}
