//! How much work the types of a component are.
//!
//! A few bytes of type can stand for a very large type, since types refer to one another: twenty
//! records, each with two fields of the one before, have a million leaves. A checker walks such a
//! type anew at each use. So each type is weighed as it is defined, and each use is charged.

use std::collections::HashMap;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncType, ComponentItem, ComponentValType,
};
use wasmparser::types::TypesRef;

use super::error::IntakeError;

/// Weighs types: the number of nodes that a walk over one meets.
#[derive(Default)]
pub(super) struct Scale {
    weights: HashMap<ComponentAnyTypeId, u64>,
    steps: u64,
    heaviest: u64,
    open: Vec<Seen>,
}

/// How many items of each index space of a component were weighed.
#[derive(Clone, Copy, Default)]
struct Seen {
    types: u32,
    functions: u32,
    instances: u32,
    components: u32,
    modules: u32,
}

impl Scale {
    /// A module or component begins.
    pub(super) fn enter(&mut self) {
        self.open.push(Seen::default());
    }

    /// What began last ends.
    pub(super) fn leave(&mut self) {
        self.open.pop();
    }

    /// Charges what the component under way gained since it was last asked.
    ///
    /// # Errors
    /// Too many steps so far.
    pub(super) fn weigh_new(&mut self, types: TypesRef<'_>, steps_max: u64, offset: usize) -> Result<(), IntakeError> {
        let Some(seen) = self.open.last().copied() else { return Ok(()) };
        let now = Seen {
            types: types.component_type_count(),
            functions: types.component_function_count(),
            instances: types.component_instance_count(),
            components: types.component_count(),
            modules: types.module_count(),
        };
        let mut new = 0u64;
        for index in seen.types..now.types {
            new = new.saturating_add(self.any(types, types.component_any_type_at(index)));
        }
        for index in seen.functions..now.functions {
            new = new.saturating_add(self.any(types, ComponentAnyTypeId::Func(types.component_function_at(index))));
        }
        for index in seen.instances..now.instances {
            new = new.saturating_add(self.any(types, ComponentAnyTypeId::Instance(types.component_instance_at(index))));
        }
        for index in seen.components..now.components {
            new = new.saturating_add(self.any(types, ComponentAnyTypeId::Component(types.component_at(index))));
        }
        for index in seen.modules..now.modules {
            let names = types.get(types.module_at(index)).map_or(0, |module| module.imports.len() + module.exports.len());
            self.heaviest = self.heaviest.max(names as u64);
            new = new.saturating_add(names as u64);
        }
        if let Some(seen) = self.open.last_mut() {
            *seen = now;
        }
        self.charge(new, steps_max, offset)
    }

    /// Charges `uses` of the heaviest item so far: which one is used does not matter enough to find out.
    ///
    /// # Errors
    /// Too many steps so far.
    pub(super) fn charge_uses(&mut self, uses: u64, steps_max: u64, offset: usize) -> Result<(), IntakeError> {
        self.charge(uses.saturating_mul(self.heaviest), steps_max, offset)
    }

    fn charge(&mut self, steps: u64, steps_max: u64, offset: usize) -> Result<(), IntakeError> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > steps_max {
            return Err(IntakeError::TooLarge {
                what: "steps to check the types:",
                found: self.steps,
                limit: steps_max,
                offset: Some(offset as u64),
            });
        }
        Ok(())
    }

    fn any(&mut self, types: TypesRef<'_>, id: ComponentAnyTypeId) -> u64 {
        if let Some(weight) = self.weights.get(&id) {
            return *weight;
        }
        // wasmparser bounds how deep value types are, and the walk bounds instances and components.
        let inner = match id {
            ComponentAnyTypeId::Resource(_) => 0,
            ComponentAnyTypeId::Defined(id) => types.get(id).map_or(0, |ty| self.defined(types, ty)),
            ComponentAnyTypeId::Func(id) => types.get(id).map_or(0, |ty| self.function(types, ty)),
            ComponentAnyTypeId::Instance(id) => types.get(id).map_or(0, |ty| self.items(types, ty.exports.values())),
            ComponentAnyTypeId::Component(id) => types.get(id).map_or(0, |ty| {
                self.items(types, ty.imports.values()).saturating_add(self.items(types, ty.exports.values()))
            }),
        };
        let weight = inner.saturating_add(1);
        self.heaviest = self.heaviest.max(weight);
        self.weights.insert(id, weight);
        weight
    }

    fn items<'a>(&mut self, types: TypesRef<'_>, items: impl Iterator<Item = &'a ComponentItem>) -> u64 {
        let mut sum = 0u64;
        for item in items {
            let weight = match item.ty {
                ComponentEntityType::Func(id) => self.any(types, id.into()),
                ComponentEntityType::Instance(id) => self.any(types, id.into()),
                ComponentEntityType::Component(id) => self.any(types, id.into()),
                ComponentEntityType::Type { referenced, .. } => self.any(types, referenced),
                ComponentEntityType::Value(ty) => self.value(types, ty),
                ComponentEntityType::Module(id) => {
                    types.get(id).map_or(0, |module| (module.imports.len() + module.exports.len()) as u64)
                }
            };
            sum = sum.saturating_add(weight).saturating_add(1);
        }
        sum
    }

    fn function(&mut self, types: TypesRef<'_>, ty: &ComponentFuncType) -> u64 {
        self.values(types, ty.params.iter().map(|(_, ty)| *ty).chain(ty.result))
    }

    fn defined(&mut self, types: TypesRef<'_>, ty: &ComponentDefinedType) -> u64 {
        use ComponentDefinedType as Ty;
        match ty {
            Ty::Primitive(_) | Ty::Own(_) | Ty::Borrow(_) => 0,
            Ty::Record(record) => self.values(types, record.fields.values().copied()),
            Ty::Variant(variant) => {
                let empty = variant.cases.values().filter(|case| case.ty.is_none()).count() as u64;
                self.values(types, variant.cases.values().filter_map(|case| case.ty)).saturating_add(empty)
            }
            Ty::Tuple(tuple) => self.values(types, tuple.types.iter().copied()),
            Ty::Flags(names) | Ty::Enum(names) => names.len() as u64,
            Ty::List { element: ty, .. } | Ty::FixedLengthList { element: ty, .. } | Ty::Option { ty, .. } => {
                self.value(types, *ty)
            }
            Ty::Map { key, value, .. } => self.value(types, *key).saturating_add(self.value(types, *value)),
            Ty::Result { ok, err, .. } => self.values(types, ok.iter().chain(err).copied()),
            Ty::Future { ty, .. } | Ty::Stream { ty, .. } => self.values(types, ty.iter().copied()),
        }
    }

    fn values(&mut self, types: TypesRef<'_>, values: impl Iterator<Item = ComponentValType>) -> u64 {
        values.fold(0, |sum, ty| self.value(types, ty).saturating_add(sum))
    }

    fn value(&mut self, types: TypesRef<'_>, ty: ComponentValType) -> u64 {
        match ty {
            ComponentValType::Primitive(_) => 1,
            ComponentValType::Type(id) => self.any(types, id.into()),
        }
    }
}
