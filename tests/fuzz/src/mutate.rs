//! Damage that keeps the frame of a binary whole: sections are removed, repeated, moved, exchanged and patched, and
//! every length around them is right again, so that what reads them gets to see them.

use arbitrary::{Result, Unstructured};

/// Changes that are made at most.
const CHANGES_MAX: usize = 4;

/// A section, or what follows the last one that can be read.
#[derive(Clone)]
enum Section {
    Plain(u8, Vec<u8>),
    /// A module or component in a component.
    Nested(u8, Binary),
    Rest(Vec<u8>),
}

#[derive(Clone)]
struct Binary {
    header: [u8; 8],
    sections: Vec<Section>,
}

/// One of the seeds, changed as the input says.
pub fn mutated(seeds: &[Vec<u8>], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let Some(mut binary) = Binary::read(u.choose(seeds)?, 0) else { return Ok(Vec::new()) };
    for _ in 0..u.int_in_range(1..=CHANGES_MAX)? {
        let donor = Binary::read(u.choose(seeds)?, 0).unwrap_or_else(|| binary.clone());
        binary.change(&donor, u)?;
    }
    let mut bytes = Vec::new();
    binary.write(&mut bytes);
    Ok(bytes)
}

/// A component with this section at its end. Ids: 1 is a core module, 4 a component, 0 custom.
pub fn with_section(component: &[u8], id: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = component.to_vec();
    write_section(id, contents, &mut bytes);
    bytes
}

impl Binary {
    fn read(bytes: &[u8], depth: u32) -> Option<Self> {
        let (header, mut rest) = bytes.split_first_chunk::<8>()?;
        let is_component = header[4..] == [0x0d, 0, 1, 0];
        let mut sections = Vec::new();
        while !rest.is_empty() {
            let Some((id, contents, after)) = read_section(rest) else {
                sections.push(Section::Rest(rest.to_vec()));
                break;
            };
            rest = after;
            let nested = (is_component && matches!(id, 1 | 4) && depth < 8).then(|| Binary::read(contents, depth + 1));
            sections.push(match nested.flatten() {
                Some(binary) => Section::Nested(id, binary),
                None => Section::Plain(id, contents.to_vec()),
            });
        }
        Some(Binary { header: *header, sections })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.header);
        for section in &self.sections {
            match section {
                Section::Plain(id, contents) => write_section(*id, contents, out),
                Section::Nested(id, binary) => {
                    let mut contents = Vec::new();
                    binary.write(&mut contents);
                    write_section(*id, &contents, out);
                }
                Section::Rest(bytes) => out.extend(bytes),
            }
        }
    }

    fn change(&mut self, donor: &Binary, u: &mut Unstructured<'_>) -> Result<()> {
        if self.sections.is_empty() || donor.sections.is_empty() {
            return Ok(());
        }
        let at = u.choose_index(self.sections.len())?;
        if let Section::Nested(_, inner) = &mut self.sections[at]
            && u.ratio(3, 4)?
        {
            let inner_donor = donor.sections.iter().find_map(|section| match section {
                Section::Nested(_, binary) => Some(binary.clone()),
                _ => None,
            });
            return inner.change(inner_donor.as_ref().unwrap_or(donor), u);
        }
        match u.int_in_range(0..=9_u8)? {
            0 => drop(self.sections.remove(at)),
            1 => self.sections.insert(at, self.sections[at].clone()),
            2 => {
                let other = u.choose_index(self.sections.len())?;
                self.sections.swap(at, other);
            }
            3 => self.sections[at] = u.choose(&donor.sections)?.clone(),
            4 => self.sections.insert(at, u.choose(&donor.sections)?.clone()),
            5 => {
                let contents: &[u8] = u.arbitrary()?;
                self.sections.insert(at, Section::Plain(u.int_in_range(0..=13)?, contents.to_vec()));
            }
            _ => {
                if let Section::Plain(id, contents) = &mut self.sections[at] {
                    if u.ratio(1, 20)? {
                        *id = u.int_in_range(0..=13)?;
                    }
                    for _ in 0..u.int_in_range(1..=4_u8)? {
                        patch(contents, u)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn patch(bytes: &mut Vec<u8>, u: &mut Unstructured<'_>) -> Result<()> {
    let at = u.int_in_range(0..=bytes.len())?;
    let end = u.int_in_range(at..=bytes.len().min(at + 16))?;
    match u.int_in_range(0..=5_u8)? {
        0 => drop(bytes.drain(at..end)),
        1 => {
            let copied = bytes[at..end].to_vec();
            bytes.splice(at..at, copied);
        }
        2 => bytes.insert(at, u.arbitrary()?),
        // The largest number, in the encoding of lengths and indices.
        3 => drop(bytes.splice(at..end, [0xff, 0xff, 0xff, 0xff, 0x0f])),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = u.arbitrary()?;
            }
        }
    }
    Ok(())
}

fn read_section(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (id, mut rest) = bytes.split_first()?;
    let mut length = 0_usize;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (contents, after) = rest.split_at_checked(length)?;
    Some((*id, contents, after))
}

fn write_section(id: u8, contents: &[u8], out: &mut Vec<u8>) {
    out.push(id);
    let mut length = contents.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            out.push(low);
            break;
        }
        out.push(low | 0x80);
    }
    out.extend(contents);
}
