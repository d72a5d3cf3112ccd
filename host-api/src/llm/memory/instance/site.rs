//! A place in the answer that is being made.

/// Where a value goes: its address, and what a reader would call it.
#[derive(Clone)]
pub(super) struct Site<'n> {
    /// JSON pointer, written like those of the validator.
    pub(super) pointer: String,
    /// The property that it is, or that it is in.
    name: &'n str,
    /// Its place in an array, from 1.
    index: Option<usize>,
    /// How many objects and arrays it is in.
    pub(super) depth: usize,
    /// Added to the variation that the place has anyway.
    pub(super) variation: u32,
}

impl<'n> Site<'n> {
    pub(super) fn root() -> Self {
        Site { pointer: String::new(), name: "answer", index: None, depth: 0, variation: 0 }
    }

    pub(super) fn property<'p>(&self, name: &'p str) -> Site<'p> {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        Site { pointer: format!("{}/{escaped}", self.pointer), name, index: None, depth: self.depth + 1, variation: 0 }
    }

    pub(super) fn item(&self, index: usize, variation: u32) -> Site<'n> {
        Site {
            pointer: format!("{}/{index}", self.pointer),
            name: self.name,
            index: Some(index + 1),
            depth: self.depth + 1,
            variation,
        }
    }

    /// `criticism`, `next steps 2`.
    pub(super) fn label(&self) -> String {
        let name = self.name.replace(['_', '-'], " ");
        match self.index {
            Some(index) => format!("{name} {index}"),
            None => name,
        }
    }
}
