//! Why an upload was refused.

use super::shown::{MESSAGE_CHARS_MAX, NAME_CHARS_MAX, shown, shown_list};

/// Names that a sentence lists before it says how many more there are.
const NAMES_LISTED_MAX: usize = 8;

/// What a component must export, as the sentences say it.
const ENTRY_POINTS: &str =
    "`run: func(input: string) -> result<string, string>` or `wasi:cli/run@0.2` (a WASI command)";

/// Why an upload was refused: one sentence that says what, where and what to do.
///
/// Every text in it that comes from the upload is bounded and free of control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeError {
    /// There is more of something than the limits allow.
    #[error("too large: {what} {found}, at most {limit} allowed{}", at(.offset))]
    TooLarge {
        /// What there is too much of, as words with their unit.
        what: &'static str,
        /// How much there is, or was when counting stopped.
        found: u64,
        /// How much there may be.
        limit: u64,
        /// Byte where it was noticed, if it is not the whole upload.
        offset: Option<u64>,
    },
    /// It does not begin like WebAssembly, binary or text.
    #[error("not WebAssembly: {begins}; a workload is a component or a core module, in binary or text form")]
    NotWasm {
        /// How it begins instead.
        begins: String,
    },
    /// It is machine code already.
    #[error(
        "precompiled: this is an ELF file, which is how compiled code (`.cwasm`) is kept, and that is never taken from \
         outside; upload the `.wasm` that it was made from"
    )]
    Precompiled,
    /// The binary is truncated, damaged or invalid.
    #[error("malformed at byte {offset} of {bytes}: {message}; build or upload it again")]
    Malformed {
        /// Byte where reading stopped. Of the binary form, if the upload was text.
        offset: u64,
        /// Size of that binary, in bytes.
        bytes: u64,
        /// What is wrong there.
        message: String,
    },
    /// The text form does not parse.
    #[error("malformed text{}: {message}", place(.line_column))]
    MalformedText {
        /// Line and column, from 1, if the parser said where.
        line_column: Option<(u64, u64)>,
        /// What is wrong there.
        message: String,
    },
    /// It uses a WebAssembly feature that is switched off.
    #[error(
        "the WebAssembly feature `{feature}` is switched off here: {message}, at byte {offset} of {bytes}; build it \
         without that feature"
    )]
    FeatureOff {
        /// The feature.
        feature: String,
        /// How it is used.
        message: String,
        /// Byte where it is used. Of the binary form, if the upload was text.
        offset: u64,
        /// Size of that binary, in bytes.
        bytes: u64,
    },
    /// It is valid, and of a form that is not taken.
    #[error("not supported: {what}, at byte {offset}; link it into one component that imports interfaces only")]
    Unsupported {
        /// The form.
        what: &'static str,
        /// Byte where it is used.
        offset: u64,
    },
    /// A component without an entry point.
    #[error("no entry point: this component exports {}; it must export {ENTRY_POINTS}", named(.exports))]
    NoEntryPoint {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// A core module that is neither a command nor says what component it is to be.
    #[error(
        "no entry point: this core module exports {}{why}; it must export `_start` and import nothing but \
         `wasi_snapshot_preview1` (a WASI command), or carry a component type (as wit-bindgen embeds it)",
        named(.exports)
    )]
    NoModuleEntryPoint {
        /// What it exports.
        exports: Vec<String>,
        /// What else keeps it from being a command, with the words around it.
        why: String,
    },
    /// The entry point has another type than it must have.
    #[error("wrong type: the export `{export}` is {found}; it must be {expected}")]
    WrongType {
        /// The export.
        export: String,
        /// What it is.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Imports that are not granted: all of them.
    #[error("not granted: {}", not_granted(.imports, .unknown))]
    ImportNotGranted {
        /// Names of those that the host has.
        imports: Vec<String>,
        /// Names of those that it does not have.
        unknown: Vec<String>,
    },
    /// A core module that cannot become a component.
    #[error("this core module cannot be made into a component: {message}")]
    NotComponentizable {
        /// Why.
        message: String,
    },
    /// A parser that we build on panicked. What it printed is on stderr.
    #[error("these bytes make no sense to {stage}, which gave up on them; build or upload them again")]
    Broke {
        /// Which one.
        stage: &'static str,
    },
}

impl IntakeError {
    /// A name for programs, which stays the same when sentences change.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::NotWasm { .. } => "not_wasm",
            Self::Precompiled => "precompiled",
            Self::Malformed { .. } | Self::MalformedText { .. } => "malformed",
            Self::FeatureOff { .. } => "feature_off",
            Self::Unsupported { .. } => "unsupported",
            Self::NoEntryPoint { .. } | Self::NoModuleEntryPoint { .. } => "no_entry_point",
            Self::WrongType { .. } => "wrong_type",
            Self::ImportNotGranted { .. } => "import_not_granted",
            Self::NotComponentizable { .. } => "not_componentizable",
            Self::Broke { .. } => "parser_broke",
        }
    }

    /// What wasmparser found in a binary of `bytes` bytes.
    pub(super) fn from_parser(error: &wasmparser::Error, bytes: u64) -> Self {
        // The messages of nested checks are put on lines of their own.
        let message = shown(&error.message().trim_end().replace('\n', ": "), MESSAGE_CHARS_MAX);
        let offset = error.offset() as u64;
        let feature = match error.missing_wasm_feature() {
            Some(features) => {
                let names = features.iter_names().map(|(name, _)| name.to_ascii_lowercase().replace('_', "-"));
                names.collect::<Vec<_>>().join(", ")
            }
            // The one feature that wasmparser refuses without its name.
            None if message == "multiple memories" => "multi-memory".to_owned(),
            None => return IntakeError::Malformed { offset, bytes, message },
        };
        IntakeError::FeatureOff { feature, message, offset, bytes }
    }

    /// What wit-component said.
    pub(super) fn from_componentize(message: &str) -> Self {
        IntakeError::NotComponentizable { message: shown(&message.replace('\n', " "), MESSAGE_CHARS_MAX) }
    }

    /// What the parser of the text form said: a message, then a line ` --> file:line:column`, then the source.
    pub(super) fn from_text(rendered: &str) -> Self {
        let mut lines = rendered.lines();
        let message = shown(lines.next().unwrap_or_default(), MESSAGE_CHARS_MAX);
        let line_column = lines.next().and_then(|line| {
            let (rest, column) = line.rsplit_once(':')?;
            let (_, line) = rest.rsplit_once(':')?;
            Some((line.parse().ok()?, column.parse().ok()?))
        });
        IntakeError::MalformedText { line_column, message }
    }
}

fn at(offset: &Option<u64>) -> String {
    offset.map(|offset| format!(" (noticed at byte {offset})")).unwrap_or_default()
}

fn place(line_column: &Option<(u64, u64)>) -> String {
    line_column.map(|(line, column)| format!(" at line {line}, column {column}")).unwrap_or_default()
}

fn not_granted(imports: &[String], unknown: &[String]) -> String {
    let granted = || format!("the workload imports {}; grant them or build it without them", named(imports));
    let offered = || format!("imports {}, which this host does not offer", named(unknown));
    match (imports.is_empty(), unknown.is_empty()) {
        (_, true) => granted(),
        (true, false) => format!("the workload {}; build it without them", offered()),
        (false, false) => format!("{}; it also {}", granted(), offered()),
    }
}

fn named(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { shown_list(names, NAMES_LISTED_MAX) }
}

/// Names for an error: as many as could ever be listed, and short.
pub(super) fn bounded_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.take(1_000).map(|name| shown(name, NAME_CHARS_MAX)).collect()
}
