//! One walk over the bytes: counted, weighed and validated, section by section.
//!
//! Each section is counted before it is validated, and the definitions of a component are validated
//! one by one, so that what a definition costs is known before the next one is paid for.

use std::ops::Range;

use wasmparser::types::Types;
use wasmparser::{
    BinaryReader, FromReader, FuncValidatorAllocations, Parser, Payload, SectionLimited, ValidPayload,
    Validator, WasmFeatures,
};

use super::error::IntakeError;
use super::limits::IntakeLimits;
use super::tally::{Found, Tally};
use super::weigh::Scale;
use super::inspect;

/// What the walk found. The bytes are valid.
pub(super) struct Walked {
    /// The types of the outermost module or component.
    pub(super) types: Types,
    pub(super) found: Found,
}

/// Walks over `bytes`, which are all of the upload or begin at its byte `base`.
///
/// # Errors
/// They are malformed, use a feature that is switched off, or exceed a limit.
pub(super) fn walk(bytes: &[u8], base: usize, limits: &IntakeLimits) -> Result<Walked, IntakeError> {
    let features = inspect::allowed_features();
    let end = (base + bytes.len()) as u64;
    let mut checker = Checker {
        bytes,
        base,
        limits,
        features,
        validator: Validator::new_with_features(features),
        allocations: FuncValidatorAllocations::default(),
        scale: Scale::default(),
    };
    let mut tally = Tally::new(bytes, base, limits);
    let mut parser = Parser::new(base as u64);
    parser.set_features(features);
    let mut types = None;
    for payload in parser.parse_all(bytes) {
        let checked = payload.map_err(Stop::from).and_then(|payload| {
            tally.count(&payload)?;
            checker.check(&payload)
        });
        types = checked.map_err(|stop| stop.into_error(end))?.or(types);
    }
    match types {
        Some(types) => Ok(Walked { types, found: tally.done() }),
        None => Err(IntakeError::Malformed { offset: end, bytes: end, message: "it has no end".to_owned() }),
    }
}

/// Why the walk stopped early.
pub(super) enum Stop {
    Refused(IntakeError),
    Invalid(wasmparser::Error),
}

impl Stop {
    fn into_error(self, end: u64) -> IntakeError {
        match self {
            Stop::Refused(error) => error,
            Stop::Invalid(error) => IntakeError::from_parser(&error, end),
        }
    }
}

impl From<IntakeError> for Stop {
    fn from(error: IntakeError) -> Self {
        Stop::Refused(error)
    }
}

impl From<wasmparser::Error> for Stop {
    fn from(error: wasmparser::Error) -> Self {
        Stop::Invalid(error)
    }
}

struct Checker<'a> {
    bytes: &'a [u8],
    base: usize,
    limits: &'a IntakeLimits,
    features: WasmFeatures,
    validator: Validator,
    allocations: FuncValidatorAllocations,
    scale: Scale,
}

impl Checker<'_> {
    /// Validates one part, and gives the types when the outermost module or component ends.
    fn check(&mut self, payload: &Payload<'_>) -> Result<Option<Types>, Stop> {
        match payload {
            Payload::ComponentTypeSection(s) => self.one_by_one(s, 0, |v, r| v.component_type_section(&section(r)?)),
            Payload::CoreTypeSection(s) => self.one_by_one(s, 0, |v, r| v.core_type_section(&section(r)?)),
            Payload::ComponentImportSection(s) => self.one_by_one(s, 0, |v, r| v.component_import_section(&section(r)?)),
            Payload::ComponentExportSection(s) => self.one_by_one(s, 1, |v, r| v.component_export_section(&section(r)?)),
            Payload::InstanceSection(s) => self.one_by_one(s, 1, |v, r| v.instance_section(&section(r)?)),
            Payload::ComponentInstanceSection(s) => {
                self.one_by_one(s, 1, |v, r| v.component_instance_section(&section(r)?))
            }
            Payload::ComponentCanonicalSection(s) => {
                self.one_by_one(s, 1, |v, r| v.component_canonical_section(&section(r)?))
            }
            _ => return self.check_whole(payload),
        }?;
        Ok(None)
    }

    fn check_whole(&mut self, payload: &Payload<'_>) -> Result<Option<Types>, Stop> {
        match self.validator.payload(payload)? {
            ValidPayload::Func(function, body) => {
                let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
                validator.validate(&body)?;
                self.allocations = validator.into_allocations();
            }
            ValidPayload::End(types) => {
                self.scale.leave();
                // The enclosing component gained what ended here.
                self.weigh(end_of(payload))?;
                return Ok(Some(types));
            }
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
        if let Payload::Version { .. } = payload {
            self.scale.enter();
        }
        Ok(None)
    }

    /// Validates each item of a section as a section of its own and charges it: what it adds, and
    /// `uses` of whatever it refers to.
    fn one_by_one<'s, T: FromReader<'s>>(
        &mut self,
        section: &SectionLimited<'s, T>,
        uses: u64,
        validate: impl Fn(&mut Validator, BinaryReader<'_>) -> wasmparser::Result<()>,
    ) -> Result<(), Stop> {
        for range in items(section)? {
            let item = self.bytes.get(range.start - self.base..range.end - self.base).unwrap_or_default();
            let alone = [&[1], item].concat();
            self.scale.charge_uses(uses, self.limits.type_steps_max, range.start)?;
            // One byte was put before the item: the count.
            validate(&mut self.validator, BinaryReader::new_features(&alone, range.start - 1, self.features))?;
            self.weigh(range.start)?;
        }
        Ok(())
    }

    fn weigh(&mut self, offset: usize) -> Result<(), IntakeError> {
        match self.validator.types(0) {
            Some(types) => self.scale.weigh_new(types, self.limits.type_steps_max, offset),
            None => Ok(()),
        }
    }
}

fn section<'r, T>(reader: BinaryReader<'r>) -> wasmparser::Result<SectionLimited<'r, T>> {
    SectionLimited::new(reader)
}

fn end_of(payload: &Payload<'_>) -> usize {
    if let Payload::End(offset) = payload { *offset } else { 0 }
}

/// Where in the upload each item of a section is.
fn items<'s, T: FromReader<'s>>(section: &SectionLimited<'s, T>) -> wasmparser::Result<Vec<Range<usize>>> {
    let starts: Vec<usize> =
        section.clone().into_iter_with_offsets().map(|item| Ok(item?.0)).collect::<wasmparser::Result<_>>()?;
    let ends = starts.iter().skip(1).copied().chain([section.range().end]);
    Ok(starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect())
}
