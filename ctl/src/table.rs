//! Plain tables: columns padded to their widest cell, three blanks apart, nothing at line ends.

/// How wide the columns are of a table that is printed a few rows at a time: they only grow, so that what comes later
/// stands below what came before.
#[derive(Debug, Default)]
pub struct Widths {
    columns: Vec<usize>,
    /// The titles have been printed.
    titled: bool,
}

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
        self.render_on(&mut Widths::default(), with_header)
    }

    /// The text as the next piece of what was printed with these widths; the titles come once.
    pub fn render_on(&self, widths: &mut Widths, with_header: bool) -> String {
        let mut lines: Vec<&Vec<String>> = vec![];
        if with_header && !std::mem::replace(&mut widths.titled, true) {
            lines.push(&self.header);
        }
        lines.extend(&self.rows);
        widths.columns.resize(self.header.len(), 0);
        for (i, width) in widths.columns.iter_mut().enumerate() {
            // What nothing follows in its line pushes nothing aside, however long it is.
            let followed = lines.iter().filter(|line| i + 1 < line.len()).filter_map(|line| line.get(i));
            let cells = followed.map(|cell| cell.chars().count());
            *width = cells.max().unwrap_or(0).max(*width);
        }
        let mut text = String::new();
        for line in lines {
            let mut out = String::new();
            for (cell, width) in line.iter().zip(&widths.columns) {
                out.push_str(cell);
                out.extend(std::iter::repeat_n(' ', (width + 3).saturating_sub(cell.chars().count())));
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Table, Widths};

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let mut table = Table::new(["NAME", "IP"]);
        table.row(["a-long-name", ""]);
        table.row(["b", "10.0.0.1"]);
        assert_eq!(table.render(true), "NAME          IP\na-long-name   <none>\nb             10.0.0.1\n");
        assert_eq!(table.render(false), "a-long-name   <none>\nb             10.0.0.1\n");
    }

    #[test]
    fn a_row_may_end_in_words() {
        let mut table = Table::new(["WHO", "N", "M"]);
        table.row(["a", "1", "2"]);
        table.row(["b", "no answer"]);
        assert_eq!(table.render(true), "WHO   N   M\na     1   2\nb     no answer\n");
    }

    #[test]
    fn what_comes_later_stands_below_what_came_before() {
        let mut widths = Widths::default();
        let mut piece = |rows: &[[&str; 2]]| {
            let mut table = Table::new(["NAME", "AGE"]);
            rows.iter().for_each(|row| table.row(*row));
            table.render_on(&mut widths, true)
        };
        assert_eq!(piece(&[["web-1", "9s"], ["b", "1s"]]), "NAME    AGE\nweb-1   9s\nb       1s\n");
        assert_eq!(piece(&[["b", "2s"]]), "b       2s\n", "as wide as before, and no second titles");
        assert_eq!(piece(&[["longer-1", "1s"]]), "longer-1   1s\n");
        assert_eq!(piece(&[["b", "3s"]]), "b          3s\n", "and wider from then on");
    }
}
