//! The entry point of a component: which one it has, and whether its type is right.

use wasmparser::PrimitiveValType;
use wasmparser::component_types::{ComponentDefinedType, ComponentEntityType, ComponentFuncType, ComponentValType};
use wasmparser::types::TypesRef;

use super::error::{IntakeError, bounded_names};
use super::imports::matches;
use super::inspect::Shape;
use super::shown::{NAME_CHARS_MAX, shown};

const RUN: &str = "run";
const RUN_TYPE: &str = "func(input: string) -> result<string, string>";
const COMMAND: &str = "wasi:cli/run@0.2.0";
const COMMAND_TYPE: &str = "an interface with `run: func() -> result`";

/// Longest type that an error shows, in characters.
const TYPE_CHARS_MAX: usize = 200;

/// Finds the entry point among the exports of a component.
///
/// # Errors
/// There is none, or it has another type than it must have.
pub(super) fn shape(types: TypesRef<'_>, exports: &[String]) -> Result<Shape, IntakeError> {
    if let Some(run) = types.component_item_for_export(RUN) {
        return match function(types, run.ty).is_some_and(|ty| is_run(types, ty)) {
            true => Ok(Shape::Workload),
            false => Err(wrong_type(RUN, described(types, run.ty), RUN_TYPE)),
        };
    }
    let command = exports.iter().find(|name| matches(COMMAND, name));
    let Some((name, command)) = command.and_then(|name| Some((name, types.component_item_for_export(name)?))) else {
        return Err(IntakeError::NoEntryPoint { exports: bounded_names(exports.iter().map(String::as_str)) });
    };
    let ComponentEntityType::Instance(instance) = command.ty else {
        return Err(wrong_type(name, described(types, command.ty), COMMAND_TYPE));
    };
    match types.get(instance).and_then(|ty| ty.exports.get(RUN)) {
        Some(run) if function(types, run.ty).is_some_and(|ty| is_command_run(types, ty)) => Ok(Shape::Command),
        Some(run) => {
            Err(wrong_type(name, format!("an interface with `run: {}`", described(types, run.ty)), COMMAND_TYPE))
        }
        None => Err(wrong_type(name, "an interface without `run`".to_owned(), COMMAND_TYPE)),
    }
}

fn wrong_type(export: &str, found: String, expected: &'static str) -> IntakeError {
    IntakeError::WrongType { export: shown(export, NAME_CHARS_MAX), found: shown(&found, TYPE_CHARS_MAX), expected }
}

fn function<'a>(types: TypesRef<'a>, ty: ComponentEntityType) -> Option<&'a ComponentFuncType> {
    if let ComponentEntityType::Func(id) = ty { types.get(id) } else { None }
}

fn is_run(types: TypesRef<'_>, ty: &ComponentFuncType) -> bool {
    let [(_, input)] = &*ty.params else { return false };
    let Some((Some(ok), Some(err))) = ty.result.and_then(|result| parts_of_result(types, result)) else { return false };
    !ty.async_ && [*input, ok, err].into_iter().all(|ty| is_string(types, ty))
}

fn is_command_run(types: TypesRef<'_>, ty: &ComponentFuncType) -> bool {
    let result = ty.result.and_then(|result| parts_of_result(types, result));
    !ty.async_ && ty.params.is_empty() && matches!(result, Some((None, None)))
}

fn parts_of_result(
    types: TypesRef<'_>,
    ty: ComponentValType,
) -> Option<(Option<ComponentValType>, Option<ComponentValType>)> {
    let ComponentValType::Type(id) = ty else { return None };
    match types.get(id)? {
        ComponentDefinedType::Result { ok, err, .. } => Some((*ok, *err)),
        _ => None,
    }
}

/// A string, or a type that is another name for it.
fn is_string(types: TypesRef<'_>, ty: ComponentValType) -> bool {
    match ty {
        ComponentValType::Primitive(ty) => ty == PrimitiveValType::String,
        ComponentValType::Type(id) => {
            matches!(types.get(id), Some(ComponentDefinedType::Primitive(PrimitiveValType::String)))
        }
    }
}

/// A type as WIT writes it, without the insides of records and the like.
fn described(types: TypesRef<'_>, ty: ComponentEntityType) -> String {
    match ty {
        ComponentEntityType::Func(id) => types.get(id).map(|ty| described_function(types, ty)).unwrap_or_default(),
        ComponentEntityType::Instance(_) => "an interface".to_owned(),
        ComponentEntityType::Type { .. } => "a type".to_owned(),
        ComponentEntityType::Module(_) => "a core module".to_owned(),
        ComponentEntityType::Component(_) => "a component".to_owned(),
        ComponentEntityType::Value(_) => "a value".to_owned(),
    }
}

fn described_function(types: TypesRef<'_>, ty: &ComponentFuncType) -> String {
    // More would not be shown.
    let params: Vec<String> =
        ty.params.iter().take(8).map(|(name, ty)| format!("{name}: {}", described_value(types, *ty, 0))).collect();
    let more = if ty.params.len() > params.len() { ", …" } else { "" };
    let result = ty.result.map(|ty| format!(" -> {}", described_value(types, ty, 0))).unwrap_or_default();
    format!("{}func({}{more}){result}", if ty.async_ { "async " } else { "" }, params.join(", "))
}

fn described_value(types: TypesRef<'_>, ty: ComponentValType, depth: usize) -> String {
    let id = match ty {
        ComponentValType::Primitive(ty) => return ty.to_string(),
        ComponentValType::Type(id) => id,
    };
    let inner = |ty: &ComponentValType| {
        if depth < 3 { described_value(types, *ty, depth + 1) } else { "…".to_owned() }
    };
    match types.get(id) {
        Some(ComponentDefinedType::Primitive(ty)) => ty.to_string(),
        Some(ComponentDefinedType::List { element, .. }) => format!("list<{}>", inner(element)),
        Some(ComponentDefinedType::Option { ty, .. }) => format!("option<{}>", inner(ty)),
        Some(ComponentDefinedType::Result { ok: None, err: None, .. }) => "result".to_owned(),
        Some(ComponentDefinedType::Result { ok, err, .. }) => {
            let ok = ok.as_ref().map_or("_".to_owned(), &inner);
            format!("result<{ok}{}>", err.as_ref().map(|err| format!(", {}", inner(err))).unwrap_or_default())
        }
        Some(ComponentDefinedType::Record(_)) => "record".to_owned(),
        Some(ComponentDefinedType::Variant(_)) => "variant".to_owned(),
        Some(ComponentDefinedType::Tuple(_)) => "tuple".to_owned(),
        Some(ComponentDefinedType::Flags(_)) => "flags".to_owned(),
        Some(ComponentDefinedType::Enum(_)) => "enum".to_owned(),
        Some(ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_)) => "resource".to_owned(),
        _ => "…".to_owned(),
    }
}
