//! Damaged workloads: whatever the bytes are, intake answers.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::workload::componentize::ENCODER;

#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Copy(Index, Index, Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let end = bytes.len() + 1;
        match self {
            Damage::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << (bit % 8),
            Damage::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Damage::Cut(at) => bytes.truncate(at.index(end)),
            Damage::Insert(at, more) => {
                let at = at.index(end);
                bytes.splice(at..at, more.iter().copied());
            }
            Damage::Remove(one, other) => {
                let (one, other) = (one.index(end), other.index(end));
                bytes.drain(one.min(other)..one.max(other));
            }
            Damage::Copy(one, other, to) => {
                let (one, other, to) = (one.index(end), other.index(end), to.index(end));
                let piece = bytes[one.min(other)..one.max(other)].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, more)| Damage::Insert(at, more)),
        1 => (at(), at()).prop_map(|(one, other)| Damage::Remove(one, other)),
        1 => (at(), at(), at()).prop_map(|(one, other, to)| Damage::Copy(one, other, to)),
    ]
}

/// One of each form that is taken in.
fn seeds() -> Vec<Vec<u8>> {
    let imports = r#"(import "holm:host/x@0.1.0" (instance
        (export "r" (type $r (sub resource)))
        (export "t" (type (eq $r)))
        (export "f" (func (param "a" (list (option (tuple u8 string)))) (result (result (own $r) (error string)))))))
        (component $c (core module $m (table 1 funcref) (memory 1)) (core instance (instantiate $m)))
        (instance (instantiate $c))"#;
    let code = r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (func (param i32) (result i32) (block (loop (br_if 1 (local.get 0)) (br_table 0 1 (local.get 0)))) i32.const 1)
        (func (call_indirect (i32.const 0))) (table 1 funcref) (global i32 (i32.const 1))"#;
    let command = command("wasi:cli/run@0.2.3", "(result (result))");
    vec![
        binary(&workload(imports)),
        binary(&command),
        binary(&preview1_command(code)),
        with_custom(RUN_MODULE, "component-type", &component_type(RUN_WORLD)),
        workload("").into_bytes(),
        preview1_command(code).into_bytes(),
    ]
}

/// Whatever came in, the answer is one that a user can be shown.
fn check_answer(bytes: &[u8]) {
    let Err(error) = take(bytes) else { return };
    let sentence = error.to_string();
    assert!(sentence.len() < 5_000 && !sentence.chars().any(char::is_control), "{sentence:?}");
    // The encoder's own checks of damaged component types are assertions; ours catches them. No other
    // parser is known to need that.
    let broke = matches!(&error, IntakeError::Broke { stage } if *stage != ENCODER);
    assert!(!broke, "{sentence} {bytes:?}");
}

proptest! {
    #[test]
    fn damaged_workloads_get_an_answer(
        seed in any::<Index>(),
        damages in prop::collection::vec(damage(), 0..6),
    ) {
        let mut bytes = seed.get(&seeds()).clone();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        check_answer(&bytes);
    }

    #[test]
    fn noise_gets_an_answer(component in any::<bool>(), noise in prop::collection::vec(any::<u8>(), 0..300)) {
        check_answer(&noise);
        check_answer(&[if component { COMPONENT_HEADER } else { MODULE_HEADER }, &noise].concat());
    }
}

#[test]
fn every_truncation_gets_an_answer() {
    for seed in seeds() {
        (0..seed.len()).for_each(|end| check_answer(&seed[..end]));
    }
}
