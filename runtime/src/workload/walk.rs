//! One walk over the bytes: counted, weighed and validated, section by section.
//!
//! Each section is counted before it is validated, and the definitions of a component are validated
//! one by one, so that what a definition costs is known before the next one is paid for.

use std::ops::Range;

use wasmparser::types::Types;
use wasmparser::{BinaryReader, FromReader, Parser, Payload, SectionLimited, ValidPayload, Validator, WasmFeatures};

use super::code::Bodies;
use super::error::IntakeError;
use super::inspect;
use super::limits::IntakeLimits;
use super::tally::{Found, Tally};
use super::weigh::Scale;

/// What the walk found. The bytes are valid.
pub(super) struct Walked {
    /// The types of the outermost module or component.
    pub(super) types: Types,
    pub(super) found: Found,
}

/// Walks over the module or component that is in `range` of the upload.
///
/// # Errors
/// It is malformed, uses a feature that is switched off, or exceeds a limit.
pub(super) fn walk(upload: &[u8], range: Range<usize>, limits: &IntakeLimits) -> Result<Walked, IntakeError> {
    let features = inspect::allowed_features();
    let bytes = upload.len() as u64;
    let mut tally = Tally::new(upload, limits);
    let mut checker = Checker {
        upload,
        limits,
        features,
        validator: Validator::new_with_features(features),
        bodies: Bodies::default(),
        scale: Scale::default(),
    };
    let mut parser = Parser::new(range.start as u64);
    parser.set_features(features);
    let mut types = None;
    for payload in parser.parse_all(upload.get(range.clone()).unwrap_or_default()) {
        let checked = payload.map_err(Stop::from).and_then(|payload| {
            tally.count(&payload)?;
            checker.check(&payload)
        });
        types = checked.map_err(|stop| stop.into_error(bytes))?.or(types);
    }
    match types {
        Some(types) => Ok(Walked { types, found: tally.done() }),
        None => {
            let message = "it has no end".to_owned();
            Err(IntakeError::Malformed { offset: range.end as u64, bytes, message })
        }
    }
}

/// Why the walk stopped early.
pub(super) enum Stop {
    Refused(IntakeError),
    Invalid(wasmparser::Error),
}

impl Stop {
    fn into_error(self, bytes: u64) -> IntakeError {
        match self {
            Stop::Refused(error) => error,
            Stop::Invalid(error) => IntakeError::from_parser(&error, bytes),
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
    upload: &'a [u8],
    limits: &'a IntakeLimits,
    features: WasmFeatures,
    validator: Validator,
    bodies: Bodies,
    scale: Scale,
}

impl Checker<'_> {
    /// Validates one part, and gives the types when the outermost module or component ends.
    fn check(&mut self, payload: &Payload<'_>) -> Result<Option<Types>, Stop> {
        match payload {
            Payload::ComponentTypeSection(s) => self.one_by_one(s, 0, |v, r| v.component_type_section(&section(r)?)),
            Payload::CoreTypeSection(s) => self.one_by_one(s, 0, |v, r| v.core_type_section(&section(r)?)),
            Payload::ComponentImportSection(s) => {
                self.one_by_one(s, 0, |v, r| v.component_import_section(&section(r)?))
            }
            Payload::ComponentExportSection(s) => {
                self.one_by_one(s, 1, |v, r| v.component_export_section(&section(r)?))
            }
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
                self.bodies.validate(function, &body, self.limits.code_steps_max)?;
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
            let alone = [&[1], self.upload.get(range.clone()).unwrap_or_default()].concat();
            self.scale.charge_use(uses, self.limits.type_steps_max, range.start)?;
            // One byte was put before the item: the count.
            validate(&mut self.validator, BinaryReader::new_features(&alone, range.start - 1, self.features))?;
            self.weigh(range.start)?;
        }
        Ok(())
    }

    fn weigh(&mut self, offset: usize) -> Result<(), IntakeError> {
        match self.validator.types(0) {
            Some(types) => self.scale.charge_new(types, self.limits.type_steps_max, offset),
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
