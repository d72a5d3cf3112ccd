//! Validates function bodies, and charges for it.
//!
//! Most operators take the same time to check. Those that transfer control are checked parameter by
//! parameter: one byte of a branch table can stand for a thousand checks.

use wasmparser::{
    BinaryReader, FuncToValidate, FuncValidator, FuncValidatorAllocations, FunctionBody, Operator, ValidatorResources,
    WasmFeatures,
};

use super::error::IntakeError;
use super::walk::Stop;

/// Validates function bodies one after the other.
#[derive(Default)]
pub(super) struct Bodies {
    allocations: FuncValidatorAllocations,
    steps: u64,
}

impl Bodies {
    /// Validates one body.
    ///
    /// # Errors
    /// It is invalid, or the bodies so far took too many steps.
    pub(super) fn validate(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
        steps_max: u64,
    ) -> Result<(), Stop> {
        let features = function.features;
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        self.validate_operators(&mut validator, body, features, steps_max)?;
        self.allocations = validator.into_allocations();
        Ok(())
    }

    fn validate_operators(
        &mut self,
        validator: &mut FuncValidator<ValidatorResources>,
        body: &FunctionBody<'_>,
        features: WasmFeatures,
        steps_max: u64,
    ) -> Result<(), Stop> {
        let mut reader = body.get_binary_reader();
        validator.read_locals(&mut reader)?;
        reader.set_features(features);
        while !reader.eof() {
            let offset = reader.original_position();
            if transfers_control(&reader)? {
                let operator = reader.peek_operator(&validator.visitor(offset))?;
                self.steps = self.steps.saturating_add(steps_of(&operator, validator));
            }
            if self.steps > steps_max {
                let what = "steps to check the code:";
                let error =
                    IntakeError::TooLarge { what, found: self.steps, limit: steps_max, offset: Some(offset as u64) };
                return Err(error.into());
            }
            reader.visit_operator(&mut validator.visitor(offset))??;
        }
        Ok(reader.finish_expression(&validator.visitor(reader.original_position()))?)
    }
}

/// Blocks, branches, calls and returns. All of them have opcodes of one byte.
fn transfers_control(reader: &BinaryReader<'_>) -> wasmparser::Result<bool> {
    Ok(matches!(reader.clone().read_u8()?, 0x02..=0x05 | 0x0b..=0x13))
}

fn steps_of(operator: &Operator<'_>, validator: &FuncValidator<ValidatorResources>) -> u64 {
    let (taken, given) = operator.operator_arity(validator).unwrap_or_default();
    let uses = match operator {
        Operator::BrTable { targets } => u64::from(targets.len()) + 1,
        _ => 1,
    };
    (u64::from(taken) + u64::from(given)).saturating_mul(uses)
}
