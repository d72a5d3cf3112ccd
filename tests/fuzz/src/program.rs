//! Programs for the guest whose arguments are mostly of the right type, so that they get past the checks of pointers
//! and handles and say something to the host function itself.

use std::collections::HashMap;

use arbitrary::{Result, Unstructured};
use wit_parser::{Handle, Type, TypeDefKind, TypeId};

use crate::guest::{DATA, DATA_END, ENDS, Guest, HostFunction, Kind, RESULT, arg, ends, op};
use crate::rarely;

/// Functions that are called at most, without those that have to be called to get a handle.
const CALLS_MAX: usize = 40;

/// What a path to a handle may go through.
const MAKERS_MAX: usize = 4;

/// Texts that mean something to one host function or another.
const TEXTS: &[&str] = &[
    "",
    "a",
    "a.txt",
    "below",
    "below/..",
    "..",
    ".",
    "/",
    "/scratch",
    "../../etc/passwd",
    "a/b/c",
    "name.of_object-1",
    "late",
    "never",
    "dear",
    "long",
    "json",
    "tools",
    "failed",
    "refused",
    "key",
    "image/png",
    "null",
    "{\"a\": [1, 2.5e300, \"\\u0000\"]}",
    "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"]}",
    "{\"type\": \"array\", \"items\": {\"$ref\": \"#\"}, \"minItems\": 3}",
    "{\"type\": \"string\", \"pattern\": \"^(a|b){3,9}$\"}",
    "holm:///alice/default/call/019a0000-0000-7000-8000-000000000001",
    "holm:///bob/default/object/a:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "https://example.com/a.png",
    "\u{1b}[2J\u{202e}\r\n",
    "line\nline\n",
    "\0",
    "ünïcode 你好 🎉",
];

/// A handle in a function's result: where it is once these bytes are there.
pub struct Made {
    pub resource: TypeId,
    conditions: Vec<(u32, u8)>,
    at: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// The function's only result.
    Value,
    Result(u32),
}

enum Arg {
    Const(u64),
    Slot(u8),
    Load(u32),
    NearEnd(u8),
}

impl Guest {
    /// The handles that a result of this type may have. Those in lists are left out, but for a list's first.
    pub fn handles_in(&self, result: &Type) -> Vec<Made> {
        let mut made = Vec::new();
        if let Some(resource) = self.owned(result) {
            made.push(Made { resource, conditions: Vec::new(), at: Place::Value });
        } else {
            self.find_handles(result, RESULT, &mut Vec::new(), &mut made);
        }
        made
    }

    /// The resource of the handles that the items of a list begin with, such as folders with their names.
    pub fn first_handle_of_list(&self, ty: &Type) -> Option<TypeId> {
        let TypeDefKind::List(item) = self.kind(ty)? else { return None };
        let TypeDefKind::Tuple(tuple) = self.kind(item)? else { return None };
        self.owned(tuple.types.first()?)
    }

    fn owned(&self, ty: &Type) -> Option<TypeId> {
        match self.kind(ty)? {
            TypeDefKind::Handle(Handle::Own(resource)) => Some(self.resource(*resource)),
            _ => None,
        }
    }

    /// What a type is, once its other names are taken off.
    fn kind(&self, ty: &Type) -> Option<&TypeDefKind> {
        let Type::Id(id) = ty else { return None };
        match &self.resolve.types[*id].kind {
            TypeDefKind::Type(inner) => self.kind(inner),
            kind => Some(kind),
        }
    }

    fn plain(&self, ty: &Type) -> Type {
        match ty {
            Type::Id(id) => match &self.resolve.types[*id].kind {
                TypeDefKind::Type(inner) => self.plain(inner),
                _ => *ty,
            },
            _ => *ty,
        }
    }

    fn resource(&self, id: TypeId) -> TypeId {
        match &self.resolve.types[id].kind {
            TypeDefKind::Type(Type::Id(inner)) => self.resource(*inner),
            _ => id,
        }
    }

    fn find_handles(&self, ty: &Type, at: u32, conditions: &mut Vec<(u32, u8)>, made: &mut Vec<Made>) {
        if let Some(resource) = self.owned(ty) {
            made.push(Made { resource, conditions: conditions.clone(), at: Place::Result(at) });
            return;
        }
        let Some(kind) = self.kind(ty) else { return };
        if let Some((_, cases)) = self.cases(kind) {
            let payload = at + self.payload_offset(kind);
            for (case, inner) in cases.iter().enumerate() {
                if let Some(inner) = inner {
                    conditions.push((at, case as u8));
                    self.find_handles(inner, payload, conditions, made);
                    conditions.pop();
                }
            }
        } else if let Some(fields) = self.fields(kind) {
            for (offset, field) in self.sizes.field_offsets(&fields) {
                self.find_handles(field, at + offset.size_wasm32() as u32, conditions, made);
            }
        }
    }

    /// Bytes of the discriminant, and the payloads of the cases.
    fn cases(&self, kind: &TypeDefKind) -> Option<(u32, Vec<Option<Type>>)> {
        let cases = match kind {
            TypeDefKind::Variant(variant) => variant.cases.iter().map(|case| case.ty).collect(),
            TypeDefKind::Enum(of) => vec![None; of.cases.len()],
            TypeDefKind::Option(inner) => vec![None, Some(*inner)],
            TypeDefKind::Result(result) => vec![result.ok, result.err],
            _ => return None,
        };
        let tag = if cases.len() <= 256 { 1 } else { 2 };
        Some((tag, cases))
    }

    fn payload_offset(&self, kind: &TypeDefKind) -> u32 {
        let Some((tag, cases)) = self.cases(kind) else { return 0 };
        let align = cases.iter().flatten().map(|ty| self.sizes.align(ty).align_wasm32()).max().unwrap_or(1) as u32;
        tag.next_multiple_of(align)
    }

    fn fields(&self, kind: &TypeDefKind) -> Option<Vec<Type>> {
        match kind {
            TypeDefKind::Record(record) => Some(record.fields.iter().map(|field| field.ty).collect()),
            TypeDefKind::Tuple(tuple) => Some(tuple.types.clone()),
            _ => None,
        }
    }

    /// Core values that a value of this type is passed as.
    fn flat_count(&self, ty: &Type) -> usize {
        let Some(kind) = self.kind(ty) else { return if self.plain(ty) == Type::String { 2 } else { 1 } };
        if let Some((_, cases)) = self.cases(kind) {
            1 + cases.iter().flatten().map(|ty| self.flat_count(ty)).max().unwrap_or(0)
        } else if let Some(fields) = self.fields(kind) {
            fields.iter().map(|ty| self.flat_count(ty)).sum()
        } else {
            match kind {
                TypeDefKind::List(_) => 2,
                TypeDefKind::Flags(flags) => flags.flags.len().div_ceil(32).max(1),
                _ => 1,
            }
        }
    }
}

/// Makes a program of what is left of the input.
pub fn program(guest: &Guest, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut writer = Writer { guest, code: Vec::new(), data_at: DATA, slots: HashMap::new(), next_slot: 0 };
    for _ in 0..CALLS_MAX {
        if u.is_empty() {
            break;
        }
        writer.step(u)?;
    }
    Ok(writer.code)
}

struct Writer<'g> {
    guest: &'g Guest,
    code: Vec<u8>,
    data_at: u32,
    /// Slots that may have a handle in them.
    slots: HashMap<TypeId, Vec<u8>>,
    next_slot: u8,
}

impl Writer<'_> {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.arbitrary::<u8>()? {
            0..=239 => {
                let function = u.choose_index(self.guest.functions.len())?;
                self.call(function, MAKERS_MAX, u)
            }
            240..=243 => {
                self.code.extend([op::REALLOC, u.arbitrary()?]);
                Ok(())
            }
            244 | 245 => {
                self.code.extend([op::POST_RETURN, u.arbitrary()?]);
                Ok(())
            }
            246..=248 => {
                let back = u.int_in_range(0..=self.code.len().min(400))?;
                let to = (self.code.len() - back) as u32;
                self.code.extend([op::REPEAT, u.arbitrary()?]);
                self.code.extend(to.to_le_bytes());
                Ok(())
            }
            249..=251 => {
                let way: u8 = u.arbitrary()?;
                // A program that ends early does little.
                if !ends(way) || rarely(3, u)? {
                    self.code.extend([op::END, way % ENDS.len() as u8]);
                    let value = number(u)?;
                    self.argument(&Arg::Const(value));
                }
                Ok(())
            }
            252.. => {
                let discriminant = if u.ratio(7, 8)? { u.int_in_range(0..=1)? } else { u.arbitrary()? };
                let (mut text, mut args) = (Vec::new(), Vec::new());
                self.bytes_of_text(u, &mut text)?;
                self.list_of_bytes(&text, u, &mut args)?;
                self.code.extend([op::RETURN, discriminant]);
                args.iter().for_each(|value| self.argument(value));
                Ok(())
            }
        }
    }

    fn call(&mut self, index: usize, makers: usize, u: &mut Unstructured<'_>) -> Result<()> {
        let guest = self.guest;
        let HostFunction { params, result, kind, .. } = &guest.functions[index];
        let mut args = Vec::new();
        match kind {
            Kind::Drop(resource) => {
                let handle = self.handle(*resource, true, makers, u)?;
                args.push(handle);
            }
            Kind::Call(function) => {
                let types: Vec<Type> = function.params.iter().map(|param| param.ty).collect();
                let spilled = types.iter().map(|ty| guest.flat_count(ty)).sum::<usize>() > 16;
                if spilled {
                    let info = guest.sizes.params(&types);
                    let at = self.room(info.size.size_wasm32() as u32, info.align.align_wasm32() as u32);
                    for (offset, ty) in guest.sizes.field_offsets(&types) {
                        self.store(ty, at + offset.size_wasm32() as u32, makers, u)?;
                    }
                    args.push(Arg::Const(at.into()));
                } else {
                    for ty in &types {
                        self.flat(ty, makers, u, &mut args)?;
                    }
                }
                if args.len() < params.len() {
                    args.push(Arg::Const(RESULT.into()));
                }
                // A wrong argument here and there, but not so many that no call succeeds.
                if !args.is_empty() && rarely(60, u)? {
                    let wrong = u.choose_index(args.len())?;
                    args[wrong] =
                        if u.arbitrary()? { Arg::Const(number(u)?) } else { Arg::NearEnd(u.int_in_range(0..=40)?) };
                }
            }
        }
        debug_assert_eq!(args.len(), params.len(), "{}", guest.functions[index].name);
        self.code.push(op::CALL);
        self.code.extend((index as u16).to_le_bytes());
        args.iter().for_each(|value| self.argument(value));
        if let Kind::Call(function) = kind
            && let Some(ty) = &function.result
        {
            for made in guest.handles_in(ty) {
                let slot = self.next_slot % 64;
                self.next_slot = self.next_slot.wrapping_add(1);
                self.slots.values_mut().for_each(|slots| slots.retain(|known| *known != slot));
                match made.at {
                    Place::Value if result.is_some() => self.code.extend([op::SAVE_LAST, slot]),
                    Place::Value => continue,
                    Place::Result(at) => {
                        self.code.extend([op::FORGET, slot, op::SAVE, slot, made.conditions.len() as u8]);
                        for (at, byte) in &made.conditions {
                            self.code.extend(at.to_le_bytes());
                            self.code.push(*byte);
                        }
                        self.code.extend(at.to_le_bytes());
                    }
                }
                self.slots.entry(made.resource).or_default().push(slot);
            }
            self.first_of_list(ty);
        }
        Ok(())
    }

    fn first_of_list(&mut self, ty: &Type) {
        if let Some(resource) = self.guest.first_handle_of_list(ty) {
            let slot = self.next_slot % 64;
            self.next_slot = self.next_slot.wrapping_add(1);
            self.slots.values_mut().for_each(|slots| slots.retain(|known| *known != slot));
            self.code.extend([op::FORGET, slot, op::SAVE_FIRST, slot]);
            self.slots.entry(resource).or_default().push(slot);
        }
    }

    fn handle(&mut self, id: TypeId, gone: bool, makers: usize, u: &mut Unstructured<'_>) -> Result<Arg> {
        let resource = self.guest.resource(id);
        if rarely(80, u)? {
            return Ok(Arg::Const(u.int_in_range(0..=20)?));
        }
        if self.slots.get(&resource).is_none_or(Vec::is_empty)
            && makers > 0
            && let Some(functions) = self.guest.makers.get(&resource)
        {
            let function = *u.choose(functions)?;
            self.call(function, makers - 1, u)?;
        }
        let Some(slots) = self.slots.get_mut(&resource).filter(|slots| !slots.is_empty()) else {
            return Ok(Arg::Const(u.int_in_range(0..=20)?));
        };
        let index = u.choose_index(slots.len())?;
        let slot = if gone && u.ratio(15, 16)? { slots.swap_remove(index) } else { slots[index] };
        Ok(Arg::Slot(slot))
    }

    fn flat(&mut self, ty: &Type, makers: usize, u: &mut Unstructured<'_>, out: &mut Vec<Arg>) -> Result<()> {
        let guest = self.guest;
        let Some(kind) = guest.kind(ty) else {
            let plain = guest.plain(ty);
            if plain == Type::String {
                let mut text = Vec::new();
                return match self.text(u, &mut text)? {
                    Some((pointer, length)) => {
                        out.extend([pointer, length]);
                        Ok(())
                    }
                    None => self.list_of_bytes(&text, u, out),
                };
            }
            out.push(Arg::Const(scalar(plain, u)?));
            return Ok(());
        };
        if let Some((_, cases)) = guest.cases(kind) {
            let end = out.len() + guest.flat_count(ty);
            let case = self.case(cases.len(), u)?;
            out.push(Arg::Const(case as u64));
            if let Some(Some(inner)) = cases.get(case) {
                self.flat(inner, makers, u, out)?;
            }
            out.resize_with(end, || Arg::Const(0));
        } else if let Some(fields) = guest.fields(kind) {
            for field in &fields {
                self.flat(field, makers, u, out)?;
            }
        } else {
            match kind {
                TypeDefKind::Handle(Handle::Own(id)) => out.push(self.handle(*id, true, makers, u)?),
                TypeDefKind::Handle(Handle::Borrow(id)) => out.push(self.handle(*id, false, makers, u)?),
                TypeDefKind::List(item) => self.list(item, makers, u, out)?,
                _ => {
                    for _ in 0..guest.flat_count(ty) {
                        out.push(Arg::Const(flags(u)?));
                    }
                }
            }
        }
        Ok(())
    }

    fn store(&mut self, ty: &Type, at: u32, makers: usize, u: &mut Unstructured<'_>) -> Result<()> {
        let guest = self.guest;
        let kind = guest.kind(ty);
        if let Some(kind) = kind {
            if let Some((tag, cases)) = guest.cases(kind) {
                let case = self.case(cases.len(), u)?;
                self.store_bytes(at, &(case as u32).to_le_bytes()[..tag as usize]);
                if let Some(Some(inner)) = cases.get(case) {
                    self.store(inner, at + guest.payload_offset(kind), makers, u)?;
                }
                return Ok(());
            }
            if let Some(fields) = guest.fields(kind) {
                for (offset, field) in guest.sizes.field_offsets(&fields) {
                    self.store(field, at + offset.size_wasm32() as u32, makers, u)?;
                }
                return Ok(());
            }
        }
        let mut args = Vec::new();
        self.flat(ty, makers, u, &mut args)?;
        let size = guest.sizes.size(ty).size_wasm32() as u32;
        match args.as_slice() {
            [Arg::Const(value)] => {
                let value = value.to_le_bytes();
                self.store_bytes(at, &value[..(size as usize).min(8)]);
            }
            several => {
                for (word, value) in several.iter().enumerate() {
                    self.code.push(op::STORE_VALUE);
                    self.code.extend((at + 4 * word as u32).to_le_bytes());
                    self.argument(value);
                }
            }
        }
        Ok(())
    }

    fn case(&mut self, cases: usize, u: &mut Unstructured<'_>) -> Result<usize> {
        if rarely(200, u)? { Ok(usize::from(u.arbitrary::<u8>()?)) } else { u.choose_index(cases) }
    }

    fn list(&mut self, item: &Type, makers: usize, u: &mut Unstructured<'_>, out: &mut Vec<Arg>) -> Result<()> {
        if self.guest.plain(item) == Type::U8 {
            let mut bytes = Vec::new();
            self.bytes_of_text(u, &mut bytes)?;
            return self.list_of_bytes(&bytes, u, out);
        }
        let size = self.guest.sizes.size(item).size_wasm32() as u32;
        let count = u.int_in_range(0_u32..=3)?;
        let at = self.room(size * count, self.guest.sizes.align(item).align_wasm32() as u32);
        for index in 0..count {
            self.store(item, at + index * size, makers, u)?;
        }
        out.push(Arg::Const(at.into()));
        out.push(Arg::Const(self.length(count, u)?));
        Ok(())
    }

    fn list_of_bytes(&mut self, bytes: &[u8], u: &mut Unstructured<'_>, out: &mut Vec<Arg>) -> Result<()> {
        let at = self.room(bytes.len() as u32, 1);
        self.store_bytes(at, bytes);
        out.push(Arg::Const(at.into()));
        out.push(Arg::Const(self.length(bytes.len() as u32, u)?));
        Ok(())
    }

    fn length(&mut self, right: u32, u: &mut Unstructured<'_>) -> Result<u64> {
        match u.arbitrary::<u8>()? {
            // All zeros, or whatever is there.
            254 => Ok(u64::from(u.arbitrary::<u16>()?)),
            255 => number(u),
            _ => Ok(right.into()),
        }
    }

    /// A text, or the one that the last call gave.
    fn text(&mut self, u: &mut Unstructured<'_>, text: &mut Vec<u8>) -> Result<Option<(Arg, Arg)>> {
        if rarely(12, u)? {
            // The payload of a result whose `ok` is a text.
            return Ok(Some((Arg::Load(RESULT + 4), Arg::Load(RESULT + 8))));
        }
        self.bytes_of_text(u, text).map(|()| None)
    }

    fn bytes_of_text(&mut self, u: &mut Unstructured<'_>, text: &mut Vec<u8>) -> Result<()> {
        match u.arbitrary::<u8>()? {
            0..=179 => text.extend(u.choose(TEXTS)?.as_bytes()),
            180..=219 => text.extend(u.arbitrary::<&str>()?.as_bytes()),
            220..=249 => {
                let one = u.choose(TEXTS)?;
                text.extend(one.repeat(u.int_in_range(0..=200)?).as_bytes());
            }
            250.. => text.extend(u.arbitrary::<&[u8]>()?),
        }
        text.truncate(0x4000);
        Ok(())
    }

    fn room(&mut self, size: u32, align: u32) -> u32 {
        let at = self.data_at.next_multiple_of(align);
        let at = if at + size > DATA_END { DATA } else { at };
        self.data_at = at + size;
        at
    }

    fn store_bytes(&mut self, at: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.code.push(op::STORE);
            self.code.extend(at.to_le_bytes());
            self.code.extend((bytes.len() as u16).to_le_bytes());
            self.code.extend(bytes);
        }
    }

    fn argument(&mut self, value: &Arg) {
        match value {
            Arg::Const(small @ ..256) => self.code.extend([arg::SMALL, *small as u8]),
            Arg::Const(word) if i32::try_from(*word as i64).is_ok() => {
                self.code.push(arg::WORD);
                self.code.extend((*word as u32).to_le_bytes());
            }
            Arg::Const(long) => {
                self.code.push(arg::LONG);
                self.code.extend(long.to_le_bytes());
            }
            Arg::Slot(slot) => self.code.extend([arg::SLOT, *slot]),
            Arg::Load(at) => {
                self.code.push(arg::LOAD);
                self.code.extend(at.to_le_bytes());
            }
            Arg::NearEnd(before) => self.code.extend([arg::NEAR_END, *before]),
        }
    }
}

/// A number, more often one at which something changes.
fn number(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.arbitrary::<u8>()? {
        0..=119 => u.int_in_range(0..=9)?,
        120..=149 => u.arbitrary::<u16>()?.into(),
        150..=169 => u64::MAX - u64::from(u.arbitrary::<u8>()?),
        170..=189 => u64::from(u32::MAX) - u64::from(u.int_in_range(0..=4_u8)?),
        190..=209 => 1 << u.int_in_range(0..=63)?,
        _ => u.arbitrary()?,
    })
}

fn flags(u: &mut Unstructured<'_>) -> Result<u64> {
    if rarely(50, u)? { number(u) } else { Ok(u.int_in_range(0..=63)?) }
}

fn scalar(ty: Type, u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match ty {
        Type::Bool => u.arbitrary::<bool>()?.into(),
        Type::Char => u32::from(u.arbitrary::<char>()?).into(),
        Type::F32 => {
            let numbers = [0.0, 0.7, -1.0, 2.0, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE];
            f32::to_bits(*u.choose(&numbers)?).into()
        }
        Type::F64 => u.arbitrary::<f64>()?.to_bits(),
        _ => number(u)?,
    })
}
