//! The form of `describe`: titled lines, their values lined up, indented below one another.

/// A sheet being filled in.
#[derive(Debug, Default)]
pub struct Sheet {
    lines: Vec<(usize, String, Option<String>)>,
}

impl Sheet {
    /// A line `Title:  value`, so many levels deep.
    pub fn put(&mut self, depth: usize, title: &str, value: impl Into<String>) {
        let value = value.into();
        let value = if value.is_empty() { "<none>".to_owned() } else { value };
        self.lines.push((depth, format!("{title}:"), Some(value)));
    }

    /// A line that only titles what is below it.
    pub fn title(&mut self, depth: usize, title: &str) {
        self.lines.push((depth, format!("{title}:"), None));
    }

    /// Free text, a line as it is.
    pub fn text(&mut self, depth: usize, text: impl Into<String>) {
        self.lines.push((depth, text.into(), None));
    }

    /// Several values below one another beside one title.
    pub fn put_all(&mut self, depth: usize, title: &str, values: &[String]) {
        match values.split_first() {
            None => self.put(depth, title, ""),
            Some((first, rest)) => {
                self.put(depth, title, first.clone());
                self.lines.extend(rest.iter().map(|v| (depth, String::new(), Some(v.clone()))));
            }
        }
    }

    /// The text; values of one block (lines of the same depth under one title) line up.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (i, (depth, title, value)) in self.lines.iter().enumerate() {
            let indent = "  ".repeat(*depth);
            match value {
                None => text.push_str(&format!("{indent}{title}\n")),
                Some(value) => {
                    let width = self.block_width(i);
                    text.push_str(format!("{indent}{title:<width$}  {value}").trim_end());
                    text.push('\n');
                }
            }
        }
        text
    }

    /// The widest title among the lines that belong together with line `i`.
    fn block_width(&self, i: usize) -> usize {
        let depth = self.lines[i].0;
        let same = |(d, title, value): &&(usize, String, Option<String>)| {
            (*d == depth && value.is_some()).then(|| title.chars().count())
        };
        let before = self.lines[..i].iter().rev().take_while(|l| l.0 >= depth);
        let after = self.lines[i..].iter().take_while(|l| l.0 >= depth);
        before.chain(after).filter_map(|l| same(&l)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Sheet;

    #[test]
    fn values_line_up_within_their_block() {
        let mut sheet = Sheet::default();
        sheet.put(0, "Name", "x");
        sheet.put_all(0, "Labels", &["a=b".into(), "c=d".into()]);
        sheet.title(0, "Containers");
        sheet.put(1, "Image", "i");
        sheet.put(1, "Restart Count", "0");
        assert_eq!(
            sheet.render(),
            "Name:    x\nLabels:  a=b\n         c=d\nContainers:\n  Image:          i\n  Restart Count:  0\n"
        );
    }
}
