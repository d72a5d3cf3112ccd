//! Endings: for each way in which a guest ends it is known which outcome that is.
#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use holm_fuzz::guest::{DATA, ENDS, arg, guest, input, op};
use holm_fuzz::host::{host, small_budget};
use holm_fuzz::panics;
use holm_host_api::{BudgetName, Outcome};
use holm_runtime::workload::Workload;
use libfuzzer_sys::fuzz_target;

/// A command that reads a byte and ends as it says.
static COMMAND: LazyLock<Workload> =
    LazyLock::new(|| host().runtime.intake(include_bytes!("command.wat")).expect("a command"));

#[derive(Arbitrary, Debug)]
enum Ending<'a> {
    /// The workload returns this, as `ok` or `err`.
    Returns { ok: bool, bytes: &'a [u8] },
    /// It returns a result of a wrong discriminant, or whose text lies here.
    ReturnsWild { discriminant: u8, pointer: u32, length: u32 },
    /// It does what Wasm does not allow.
    Ends { way: u8, value: u32 },
    /// The host asks it for memory, and it answers so.
    Realloc { way: u8 },
    /// It ends so after it has returned.
    PostReturn { way: u8 },
    /// A command does what this byte says, after it wrote so much.
    Command { does: u8, writes: u16 },
}

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    cancelled: bool,
    output_bytes_max: Option<u8>,
    ending: Ending<'a>,
}

fuzz_target!(init: panics::end_the_process(), |bytes: &[u8]| {
    if let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(bytes)) {
        check(&case);
    }
});

fn check(case: &Case<'_>) {
    let host = host();
    let output_max = case.output_bytes_max.map_or(20_000, u64::from);
    let budget = small_budget().with(BudgetName::OutputBytes, output_max).with(BudgetName::Fuel, 3_000_000);
    let mut program = Vec::new();
    let request = match &case.ending {
        Ending::Command { does, writes } => {
            let stdin = [&[*does], &writes.to_le_bytes()[..]].concat();
            host.request(&COMMAND).input(stdin)
        }
        workload => {
            write(workload, &mut program);
            host.request(&guest().workload).input(input(&program))
        }
    };
    let request = request.budget(budget);
    if case.cancelled {
        request.cancellation.cancel();
    }
    let execution = host.execute(request);
    let (outcome, error) = (execution.record.outcome, execution.record.error.as_deref());
    if case.cancelled {
        // It has a moment to end by itself, in which a budget may end it.
        let cancelled = (outcome, error) == (Outcome::Cancelled, Some("cancelled"));
        assert!(cancelled || matches!(outcome, Outcome::BudgetExceeded(_)), "{outcome:?} {error:?}");
        return;
    }
    let exceeded = |name| matches!(outcome, Outcome::BudgetExceeded(exhausted) if exhausted.budget == name);
    match &case.ending {
        Ending::Returns { ok, bytes } => match (std::str::from_utf8(bytes), ok) {
            (Err(_), _) => assert_eq!(outcome, Outcome::Trapped, "{error:?}"),
            (Ok(text), true) if text.len() as u64 <= output_max => {
                assert_eq!((outcome, execution.record.output.as_deref()), (Outcome::Completed, Some(text)));
                assert_eq!(execution.output, *bytes);
            }
            (Ok(_), true) => assert!(exceeded(BudgetName::OutputBytes), "{outcome:?}"),
            (Ok(text), false) => assert_eq!((outcome, error), (Outcome::GuestError, Some(text))),
        },
        Ending::ReturnsWild { discriminant, pointer, length } => {
            let outside = u64::from(*pointer) + u64::from(*length) > 16 << 16;
            if *discriminant > 1 || outside {
                assert_eq!(outcome, Outcome::Trapped, "{error:?}");
            }
        }
        Ending::Ends { way, .. } => match usize::from(*way) % ENDS.len() {
            0..=3 | 6 | 7 | 9 => assert_eq!(outcome, Outcome::Trapped, "{error:?}"),
            4 => assert!(exceeded(BudgetName::Fuel), "{outcome:?}"),
            // The stack or the fuel, whichever is used up first.
            5 => assert!(outcome == Outcome::Trapped || exceeded(BudgetName::Fuel), "{outcome:?}"),
            // Fuel is paid for what is asked, before it is known whether there is room for it.
            way @ (8 | 13) => {
                let held = if way == 8 { BudgetName::MemoryBytes } else { BudgetName::TableElements };
                let known = outcome == Outcome::Completed || exceeded(held) || exceeded(BudgetName::Fuel);
                assert!(known, "{outcome:?} {error:?}");
            }
            _ => {}
        },
        Ending::Realloc { .. } => {}
        Ending::PostReturn { way } => match way & 3 {
            0 => assert_eq!(outcome, Outcome::Completed, "{error:?}"),
            3 => assert!(exceeded(BudgetName::Fuel), "{outcome:?}"),
            _ => assert_eq!(outcome, Outcome::Trapped, "{error:?}"),
        },
        Ending::Command { does, writes } => {
            if u64::from(*writes) > output_max {
                assert!(exceeded(BudgetName::OutputBytes), "{outcome:?} {error:?}");
                return;
            }
            assert_eq!(execution.output.len(), usize::from(*writes));
            match does {
                0 | 1 => assert_eq!(outcome, Outcome::Completed, "{error:?}"),
                2 => assert_eq!(outcome, Outcome::Trapped, "{error:?}"),
                3 => assert!(exceeded(BudgetName::Fuel), "{outcome:?}"),
                _ => assert_eq!(outcome, Outcome::GuestError, "{error:?}"),
            }
        }
    }
}

/// The program that ends so.
fn write(ending: &Ending<'_>, program: &mut Vec<u8>) {
    let word = |bytes: &mut Vec<u8>, value: u32| {
        bytes.push(arg::WORD);
        bytes.extend(value.to_le_bytes());
    };
    match ending {
        Ending::Returns { ok, bytes } => {
            for (index, piece) in bytes.chunks(60_000).enumerate() {
                program.push(op::STORE);
                program.extend((DATA + 60_000 * index as u32).to_le_bytes());
                program.extend((piece.len() as u16).to_le_bytes());
                program.extend(piece);
            }
            program.extend([op::RETURN, u8::from(!ok)]);
            word(program, DATA);
            word(program, bytes.len() as u32);
        }
        Ending::ReturnsWild { discriminant, pointer, length } => {
            program.extend([op::RETURN, *discriminant]);
            word(program, *pointer);
            word(program, *length);
        }
        Ending::Ends { way, value } => {
            program.extend([op::END, *way]);
            word(program, *value);
        }
        // The first function with a text as its result is as good as any.
        Ending::Realloc { way } => {
            program.extend([op::REALLOC, *way]);
            for function in 0..guest().functions.len() as u16 {
                program.push(op::CALL);
                program.extend(function.to_le_bytes());
                program.extend([arg::SMALL, 0].repeat(20));
            }
        }
        Ending::PostReturn { way } => program.extend([op::POST_RETURN, *way]),
        Ending::Command { .. } => {}
    }
}
