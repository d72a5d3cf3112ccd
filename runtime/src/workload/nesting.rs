//! How deep component types are in one another, found without recursion.
//!
//! wasmparser reads a component type by recursion, one level of the stack for three bytes of input,
//! so a section of types is measured here before wasmparser reads it.

use wasmparser::{
    BinaryReader, ComponentAlias, ComponentExternName, ComponentImport, ComponentType, ComponentTypeRef, CoreType,
    Result,
};

/// What a section of component types holds.
pub(super) struct Declared {
    /// Types, and declarations within component and instance types.
    pub(super) declarations: u64,
    /// Levels of component and instance types in one another.
    pub(super) depth: u64,
}

const COMPONENT_TYPE: u8 = 0x41;
const INSTANCE_TYPE: u8 = 0x42;

/// Reads a section of component types, and stops early at one level or one declaration too many.
///
/// # Errors
/// The section is malformed.
pub(super) fn measure(mut reader: BinaryReader<'_>, depth_max: u64, declarations_max: u64) -> Result<Declared> {
    let mut declared = Declared { declarations: 0, depth: 0 };
    // For each level that is open, how many of its items are still to be read.
    let mut open = vec![reader.read_var_u32()?];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        declared.declarations += 1;
        let opened = if open.len() == 1 { read_type(&mut reader)? } else { read_declaration(&mut reader)? };
        open.extend(opened);
        declared.depth = declared.depth.max(open.len() as u64 - 1);
        if declared.depth > depth_max || declared.declarations > declarations_max {
            break;
        }
    }
    Ok(declared)
}

/// Reads a type whole, or the beginning of one that holds declarations, and then says how many.
fn read_type(reader: &mut BinaryReader<'_>) -> Result<Option<u32>> {
    match reader.clone().read_u8()? {
        COMPONENT_TYPE | INSTANCE_TYPE => {
            reader.read_u8()?;
            Ok(Some(reader.read_var_u32()?))
        }
        _ => {
            reader.read::<ComponentType<'_>>()?;
            Ok(None)
        }
    }
}

fn read_declaration(reader: &mut BinaryReader<'_>) -> Result<Option<u32>> {
    match reader.read_u8()? {
        0x00 => drop(reader.read::<CoreType<'_>>()?),
        0x01 => return read_type(reader),
        0x02 => {
            reader.read::<ComponentAlias<'_>>()?;
        }
        0x03 => drop(reader.read::<ComponentImport<'_>>()?),
        0x04 => {
            reader.read::<ComponentExternName<'_>>()?;
            reader.read::<ComponentTypeRef>()?;
        }
        // Not a declaration: wasmparser says so, better than this could, when it reads the section.
        _ => *reader = BinaryReader::new(&[], reader.original_position()),
    }
    Ok(None)
}
