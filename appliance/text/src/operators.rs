//! Operators of templates as functions of ours, put in place of `minijinja`'s instructions: they
//! pay for their work first (`effort.rs`), and `%` on text is Python's.
//!
//! `minijinja` gives no other way in: operators cannot be overloaded. Names of these functions
//! cannot be spelled in a template.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use crate::effort::{self, charge_bytes, charge_comparison, charge_container, charge_walk};
use crate::python;
use crate::python_format;

const LIST: &str = "(list)";
const TUPLE: &str = "(tuple)";
const MAP: &str = "(map)";
const ITEM: &str = "(item)";
const SET: &str = "(set)";
const PAIR: &str = "(pair)";
const MATERIALIZED: &str = "(materialized)";
const CONCATENATED: &str = "(~)";
const REMAINDER: &str = "(%)";
const IN: &str = "(in)";
/// Comparisons, in the order of [`effort::COMPARISONS`].
const COMPARISONS: [&str; 6] = ["(==)", "(!=)", "(<)", "(<=)", "(>)", "(>=)"];

/// A compiled template with our operators.
///
/// # Errors
/// Lists or mappings of more items than a call can have arguments.
pub(crate) fn replaced<'s>(old: &Instructions<'s>) -> Result<Instructions<'s>, Error> {
    let mut starts = Vec::new();
    let mut new: Vec<(Instruction<'s>, u32)> = Vec::new();
    let mut index = 0;
    while let Some(instruction) = old.get(index) {
        starts.push(new.len() as u32);
        new.extend(replacement(instruction)?.into_iter().map(|instruction| (instruction, index)));
        index += 1;
    }
    starts.push(new.len() as u32);
    let moved = |target: &mut u32| {
        if let Some(start) = starts.get(*target as usize) {
            *target = *start;
        }
    };
    let mut out = Instructions::new(old.name(), old.source());
    for (mut instruction, from) in new {
        match &mut instruction {
            Instruction::Iterate(target)
            | Instruction::Jump(target)
            | Instruction::JumpIfFalse(target)
            | Instruction::JumpIfFalseOrPop(target)
            | Instruction::JumpIfTrueOrPop(target)
            | Instruction::BuildMacro(_, target, _) => moved(target),
            _ => {}
        }
        match old.get_line(from) {
            Some(line) => out.add_with_line(instruction, u16::try_from(line).unwrap_or(u16::MAX)),
            None => out.add(instruction),
        };
    }
    Ok(out)
}

/// What stands for an instruction. Each call takes what the instruction took off the stack.
fn replacement<'s>(instruction: &Instruction<'s>) -> Result<Vec<Instruction<'s>>, Error> {
    use Instruction as I;
    let call = |name, count: u16| I::CallFunction(name, Some(count));
    Ok(match instruction {
        I::Add | I::Mul | I::Slice => vec![instruction.clone(), call(MATERIALIZED, 1)],
        I::Rem => vec![call(REMAINDER, 2)],
        I::StringConcat => vec![call(CONCATENATED, 2)],
        I::Eq => vec![call(COMPARISONS[0], 2)],
        I::Ne => vec![call(COMPARISONS[1], 2)],
        I::Lt => vec![call(COMPARISONS[2], 2)],
        I::Lte => vec![call(COMPARISONS[3], 2)],
        I::Gt => vec![call(COMPARISONS[4], 2)],
        I::Gte => vec![call(COMPARISONS[5], 2)],
        I::In => vec![call(IN, 2)],
        I::CompareAndPreserve(_) => {
            vec![call(PAIR, 2), I::UnpackList(2), instruction.clone()]
        }
        I::GetItem => vec![call(ITEM, 2)],
        I::SetAttr(name) => {
            vec![I::LoadConst(Value::from(*name)), call(SET, 3), I::DiscardTop]
        }
        I::BuildList(count) => vec![I::CallFunction(LIST, arguments(*count)?)],
        I::BuildTuple(count) => vec![I::CallFunction(TUPLE, arguments(*count)?)],
        I::BuildMap(pairs) => vec![I::CallFunction(MAP, arguments(Some(pairs * 2))?)],
        other => vec![other.clone()],
    })
}

fn arguments(count: Option<usize>) -> Result<Option<u16>, Error> {
    count.map(u16::try_from).transpose().map_err(|_| {
        Error::new(ErrorKind::SyntaxError, "a list or mapping of more than 65,535 parts")
    })
}

/// Registers the operators, and `namespace`, which they write to.
pub(crate) fn install(environment: &mut Environment<'static>) {
    environment.add_function(MATERIALIZED, |state: &mut State, value: Value| {
        effort::materialized(state, value)
    });
    environment.add_function(CONCATENATED, concatenated);
    environment.add_function(REMAINDER, remainder);
    environment.add_function(ITEM, item);
    environment.add_function(IN, |state: &mut State, value: Value, container: Value| {
        effort::contains(state, &container, &value)
    });
    environment.add_function(PAIR, |state: &mut State, a: Value, b: Value| {
        // A chain may end in `in`, which compares the value with each item.
        charge_walk(state, &a)?;
        charge_walk(state, &b)?;
        Ok::<Value, Error>(Value::from(Tuple::from([b, a])))
    });
    for (name, (_, compare)) in COMPARISONS.iter().zip(effort::COMPARISONS) {
        environment.add_function(*name, move |state: &mut State, a: Value, b: Value| {
            charge_comparison(state, &a, &b)?;
            Ok::<bool, Error>(compare(&a, &b))
        });
    }
    environment.add_function(LIST, |state: &mut State, items: Rest<Value>| {
        stored(state, &items).map(|items| Value::from(items.to_vec()))
    });
    environment.add_function(TUPLE, |state: &mut State, items: Rest<Value>| {
        stored(state, &items).map(|items| Value::from(Tuple::from(items.to_vec())))
    });
    environment.add_function(MAP, |state: &mut State, parts: Rest<Value>| {
        stored(state, &parts)?;
        parts.chunks(2).try_for_each(|pair| effort::check_key(&pair[0]))?;
        let pairs = parts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        Ok::<Value, Error>(Value::from_pairs(pairs))
    });
    environment.add_function("dict", dict);
    environment.add_function("namespace", namespace);
    environment.add_function(SET, |value: Value, target: Value, name: &str| {
        let Some(namespace) = target.downcast_object_ref::<Namespace>() else {
            let detail = format!("can only assign to namespaces, not {}", target.kind());
            return Err(Error::new(ErrorKind::InvalidOperation, detail));
        };
        effort::check_storable(&value)?;
        namespace.set(name, value);
        Ok(())
    });
}

fn stored<'a>(state: &State, items: &'a [Value]) -> Result<&'a [Value], Error> {
    charge_container(state, items.len())?;
    items.iter().try_for_each(effort::check_storable)?;
    Ok(items)
}

/// `a ~ b`
fn concatenated(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    charge_walk(state, &a)?;
    charge_walk(state, &b)?;
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        return Ok(Value::from([left, right].concat()));
    }
    Ok(Value::from(python::printed(&a) + &python::printed(&b)))
}

/// `a % b`, which formats where `a` is text.
fn remainder(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    if let Some(format) = a.as_str() {
        let arguments: Vec<Value> = match b.is_tuple() {
            true => b.try_iter()?.collect(),
            false => vec![b],
        };
        effort::charge_arguments(state, &arguments)?;
        return python_format::printf(state, format, &arguments).map(Value::from);
    }
    let failed = || Error::new(ErrorKind::InvalidOperation, "'%' needs numbers, not zero");
    if a.is_integer() && b.is_integer() {
        let (a, b) = (i128::try_from(a)?, i128::try_from(b)?);
        let rest = a.checked_rem(b).ok_or_else(failed)?;
        let rest = if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest };
        return Ok(i64::try_from(rest).map_or(Value::from(rest), Value::from));
    }
    let (a, b) = (f64::try_from(a)?, f64::try_from(b)?);
    let rest = a % b;
    match b == 0.0 {
        true => Err(failed()),
        false if rest != 0.0 && (rest < 0.0) != (b < 0.0) => Ok(Value::from(rest + b)),
        false => Ok(Value::from(rest)),
    }
}

/// `container[key]`
fn item(state: &mut State, container: Value, key: Value) -> Result<Value, Error> {
    effort::check_key(&key)?;
    match container.as_str() {
        Some(text) => charge_bytes(state, text.len())?,
        // What cannot be indexed is walked up to the item.
        None if container.kind() == ValueKind::Iterable => {
            effort::charge_items(state, container.len().unwrap_or(0))?;
        }
        None => {}
    }
    container.get_item(&key)
}

/// `dict(mapping, key=value)`
fn dict(state: &mut State, value: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    let mut parts = match &value {
        Some(value) if !value.is_undefined() => pairs(value)?,
        _ => Vec::new(),
    };
    parts.extend(arguments_of(&more)?);
    charge_container(state, 2 * parts.len())?;
    parts.iter().try_for_each(|(_, item)| effort::check_storable(item))?;
    Ok(Value::from_pairs(parts))
}

fn pairs(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let object = value.as_object().filter(|_| value.kind() == ValueKind::Map);
    let pairs = object.and_then(|object| object.try_iter_pairs());
    let needed = || Error::new(ErrorKind::InvalidOperation, "dict needs a mapping");
    Ok(pairs.ok_or_else(needed)?.collect())
}

fn arguments_of(kwargs: &Kwargs) -> Result<Vec<(Value, Value)>, Error> {
    let get = |name: &str| Ok((Value::from(name), kwargs.get::<Value>(name)?));
    let all = kwargs.args().map(get).collect();
    kwargs.assert_all_used()?;
    all
}

/// `namespace(key=value)`
fn namespace(state: &mut State, value: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    let mut parts = match &value {
        Some(value) => pairs(value)?,
        None => Vec::new(),
    };
    parts.extend(arguments_of(&more)?);
    charge_container(state, 2 * parts.len())?;
    parts.iter().try_for_each(|(_, item)| effort::check_storable(item))?;
    let named = parts.into_iter().map(|(key, item)| (key.to_string(), item));
    Ok(Value::from_object(Namespace(Mutex::new(named.collect()))))
}

/// What `{% set namespace.name = … %}` writes to.
struct Namespace(Mutex<BTreeMap<String, Value>>);

impl Namespace {
    fn set(&self, name: &str, value: Value) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.insert(name.to_owned(), value);
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<namespace>")
    }
}

impl Object for Namespace {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key.as_str()?).cloned()
    }
}
