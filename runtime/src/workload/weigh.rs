//! How much work the types of a component are.
//!
//! A few bytes of type can stand for a very large type, since types refer to one another: twenty
//! records, each with two fields of the one before, have a million leaves. A checker walks such a
//! type anew at each use. So each type is weighed as it is defined, and each use is charged.

use std::collections::HashMap;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentCoreModuleTypeId, ComponentDefinedType, ComponentEntityType, ComponentItem,
    ComponentValType,
};
use wasmparser::types::TypesRef;

use super::error::IntakeError;

/// Steps that a definition costs by itself, whatever its type.
const DEFINITION_STEPS: u64 = 50;

/// Levels of types in one another. wasmparser has this limit for values; instances of instances make it
/// panic at 128.
const LEVELS_MAX: u64 = 100;

/// Weighs what a component defines.
#[derive(Default)]
pub(super) struct Scale {
    weights: HashMap<ComponentAnyTypeId, Weight>,
    steps: u64,
    heaviest: u64,
    open: Vec<Seen>,
}

/// What a walk over a type meets.
#[derive(Clone, Copy)]
struct Weight {
    nodes: u64,
    levels: u64,
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

    /// Charges a definition that uses others: `uses` times the heaviest so far. Which one it really is
    /// does not matter enough to find out.
    ///
    /// # Errors
    /// Too many steps so far.
    pub(super) fn charge_use(&mut self, uses: u64, steps_max: u64, offset: usize) -> Result<(), IntakeError> {
        self.charge(self.heaviest.saturating_mul(uses).saturating_add(DEFINITION_STEPS), steps_max, offset)
    }

    /// Charges what the component under way gained since this was last asked.
    ///
    /// # Errors
    /// Too many steps so far, or too many levels.
    pub(super) fn charge_new(&mut self, types: TypesRef<'_>, steps_max: u64, offset: usize) -> Result<(), IntakeError> {
        let now = Seen {
            types: types.component_type_count(),
            functions: types.component_function_count(),
            instances: types.component_instance_count(),
            components: types.component_count(),
            modules: types.module_count(),
        };
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let seen = std::mem::replace(open, now);
        let mut new = Weight::LEAF;
        for index in seen.types..now.types {
            new = new.and(self.weigh(types, types.component_any_type_at(index)));
        }
        for index in seen.functions..now.functions {
            new = new.and(self.weigh(types, types.component_function_at(index).into()));
        }
        for index in seen.instances..now.instances {
            new = new.and(self.weigh(types, types.component_instance_at(index).into()));
        }
        for index in seen.components..now.components {
            new = new.and(self.weigh(types, types.component_at(index).into()));
        }
        for index in seen.modules..now.modules {
            let module = weigh_module(types, types.module_at(index));
            self.heaviest = self.heaviest.max(module.nodes);
            new = new.and(module);
        }
        if new.levels > LEVELS_MAX {
            let what = "levels of types in one another:";
            let offset = Some(offset as u64);
            return Err(IntakeError::TooLarge { what, found: new.levels, limit: LEVELS_MAX, offset });
        }
        self.charge(new.nodes, steps_max, offset)
    }

    fn charge(&mut self, steps: u64, steps_max: u64, offset: usize) -> Result<(), IntakeError> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps <= steps_max {
            return Ok(());
        }
        let what = "steps to check the types:";
        Err(IntakeError::TooLarge { what, found: self.steps, limit: steps_max, offset: Some(offset as u64) })
    }

    /// Recursion is only as deep as what one definition can hold that was not weighed before, which
    /// wasmparser and the walk bound.
    fn weigh(&mut self, types: TypesRef<'_>, id: ComponentAnyTypeId) -> Weight {
        if let Some(weight) = self.weights.get(&id) {
            return *weight;
        }
        let weight = match id {
            ComponentAnyTypeId::Resource(_) => Weight::LEAF,
            ComponentAnyTypeId::Defined(id) => types.get(id).map_or(Weight::LEAF, |ty| self.weigh_defined(types, ty)),
            ComponentAnyTypeId::Func(id) => types.get(id).map_or(Weight::LEAF, |ty| {
                self.weigh_values(types, ty.params.iter().map(|(_, ty)| *ty).chain(ty.result))
            }),
            ComponentAnyTypeId::Instance(id) => {
                types.get(id).map_or(Weight::LEAF, |ty| self.weigh_items(types, ty.exports.values()))
            }
            ComponentAnyTypeId::Component(id) => types
                .get(id)
                .map_or(Weight::LEAF, |ty| self.weigh_items(types, ty.imports.values().chain(ty.exports.values()))),
        };
        self.heaviest = self.heaviest.max(weight.nodes);
        self.weights.insert(id, weight);
        weight
    }

    fn weigh_items<'a>(&mut self, types: TypesRef<'_>, items: impl Iterator<Item = &'a ComponentItem>) -> Weight {
        holding(items.map(|item| match item.ty {
            ComponentEntityType::Func(id) => self.weigh(types, id.into()),
            ComponentEntityType::Instance(id) => self.weigh(types, id.into()),
            ComponentEntityType::Component(id) => self.weigh(types, id.into()),
            ComponentEntityType::Type { referenced, .. } => self.weigh(types, referenced),
            ComponentEntityType::Value(ty) => self.weigh_value(types, ty),
            ComponentEntityType::Module(id) => weigh_module(types, id),
        }))
    }

    fn weigh_defined(&mut self, types: TypesRef<'_>, ty: &ComponentDefinedType) -> Weight {
        use ComponentDefinedType as Ty;
        match ty {
            Ty::Primitive(_) | Ty::Own(_) | Ty::Borrow(_) => Weight::LEAF,
            Ty::Record(record) => self.weigh_values(types, record.fields.values().copied()),
            Ty::Variant(variant) => holding(
                variant.cases.values().map(|case| case.ty.map_or(Weight::LEAF, |ty| self.weigh_value(types, ty))),
            ),
            Ty::Tuple(tuple) => self.weigh_values(types, tuple.types.iter().copied()),
            Ty::Flags(names) | Ty::Enum(names) => holding(names.iter().map(|_| Weight::LEAF)),
            Ty::List { element: ty, .. } | Ty::FixedLengthList { element: ty, .. } | Ty::Option { ty, .. } => {
                self.weigh_values(types, [*ty].into_iter())
            }
            Ty::Map { key, value, .. } => self.weigh_values(types, [*key, *value].into_iter()),
            Ty::Result { ok, err, .. } => self.weigh_values(types, ok.iter().chain(err).copied()),
            Ty::Future { ty, .. } | Ty::Stream { ty, .. } => self.weigh_values(types, ty.iter().copied()),
        }
    }

    fn weigh_values(&mut self, types: TypesRef<'_>, values: impl Iterator<Item = ComponentValType>) -> Weight {
        holding(values.map(|ty| self.weigh_value(types, ty)))
    }

    fn weigh_value(&mut self, types: TypesRef<'_>, ty: ComponentValType) -> Weight {
        match ty {
            ComponentValType::Primitive(_) => Weight::LEAF,
            ComponentValType::Type(id) => self.weigh(types, id.into()),
        }
    }
}

impl Weight {
    const LEAF: Weight = Weight { nodes: 1, levels: 1 };

    /// The weight of this and the other side by side.
    fn and(self, other: Weight) -> Weight {
        Weight { nodes: self.nodes.saturating_add(other.nodes), levels: self.levels.max(other.levels) }
    }
}

/// The weight of a node with these in it.
fn holding(items: impl Iterator<Item = Weight>) -> Weight {
    items.fold(Weight::LEAF, |sum, item| sum.and(Weight { levels: item.levels.saturating_add(1), ..item }))
}

fn weigh_module(types: TypesRef<'_>, id: ComponentCoreModuleTypeId) -> Weight {
    let names = types.get(id).map_or(0, |module| module.imports.len() + module.exports.len());
    Weight { nodes: names as u64 + 1, levels: 1 }
}
