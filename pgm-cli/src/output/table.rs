//! Tables for people: plain columns, no frames, so that they can be copied and searched.

use std::fmt;

use comfy_table::presets::NOTHING;

/// A table that grows by rows.
#[derive(Debug)]
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// A table with these column heads.
    pub(crate) fn new<const N: usize>(heads: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        table.set_header(heads);
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.lines() {
            writeln!(
                f,
                "{}",
                line.trim_end().strip_prefix(' ').unwrap_or(line.trim_end())
            )?;
        }
        Ok(())
    }
}
