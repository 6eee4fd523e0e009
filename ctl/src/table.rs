//! Plain tables: columns padded to their widest cell, three blanks apart, nothing at line ends.

/// A table being put together.
#[derive(Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// What is shown in place of nothing.
    nothing: &'static str,
}

impl Table {
    /// A table with these column titles.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Table {
        Table { header: header.into_iter().map(Into::into).collect(), rows: vec![], nothing: "<none>" }
    }

    /// A table whose empty cells stay empty.
    pub fn plain<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Table {
        Table { nothing: "", ..Table::new(header) }
    }

    /// Adds a row; empty cells print as `<none>`, unless the table is plain.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells = cells.into_iter().map(Into::into);
        self.rows.push(cells.map(|c: String| if c.is_empty() { self.nothing.to_owned() } else { c }).collect());
    }

    /// The text, with or without the line of titles.
    pub fn render(&self, with_header: bool) -> String {
        let mut lines: Vec<&Vec<String>> = vec![];
        if with_header {
            lines.push(&self.header);
        }
        lines.extend(&self.rows);
        let widths: Vec<usize> = (0..self.header.len())
            .map(|i| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for line in lines {
            let mut out = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                out.push_str(cell);
                out.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 3));
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let mut table = Table::new(["NAME", "IP"]);
        table.row(["a-long-name", ""]);
        table.row(["b", "10.0.0.1"]);
        assert_eq!(table.render(true), "NAME          IP\na-long-name   <none>\nb             10.0.0.1\n");
        assert_eq!(table.render(false), "a-long-name   <none>\nb             10.0.0.1\n");
    }
}
