//! Where a followed log stands. Lines come with their times (`2026-01-02T03:04:05.123456789Z text`);
//! when the log is read again from a little earlier, those that were printed are left out.

/// A log's lines on their way to the user.
pub struct Lines {
    /// The user wants to see the times.
    show_times: bool,
    /// What stands before each line.
    prefix: String,
    /// The start of a line whose end has not come yet.
    partial: Vec<u8>,
    /// The time of the last line, and how many lines of that very time there were.
    last: Option<(String, usize)>,
    /// Lines so old, or so many of that age, have been printed by an earlier connection.
    skip: Option<(String, usize)>,
    count: u64,
}

impl Lines {
    /// The beginning of a log.
    pub fn new(show_times: bool, prefix: String) -> Lines {
        Lines { show_times, prefix, partial: vec![], last: None, skip: None, count: 0 }
    }

    /// How many lines were printed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// From here on the log is read again, from before its last line.
    pub fn resume(&mut self) {
        // A line that was cut off comes again, whole.
        self.partial.clear();
        self.skip = self.last.clone();
    }

    /// What is to be printed of what has come: whole lines.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.line(&line, &mut out);
            }
        }
        out
    }

    /// What is left when the log has ended without the end of a line.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut out = vec![];
        let line = std::mem::take(&mut self.partial);
        if !line.is_empty() {
            self.line(&line, &mut out);
        }
        out
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some((time, text)) = timed(line) else {
            out.extend_from_slice(line);
            return;
        };
        if let Some((until, printed)) = &mut self.skip {
            if *time < **until {
                return;
            }
            if *time == **until && *printed > 0 {
                *printed -= 1;
                return;
            }
            if *time > **until {
                self.skip = None;
            }
        }
        match &mut self.last {
            Some((last, count)) if last.as_str() == time => *count += 1,
            last => *last = Some((time.to_owned(), 1)),
        }
        self.count += 1;
        out.extend_from_slice(self.prefix.as_bytes());
        if self.show_times {
            out.extend_from_slice(&line[..line.len() - text.len()]);
        }
        join(text, out);
    }
}

/// The engine keeps long lines in pieces of this size, each with a time of its own.
const PIECE: usize = 16 * 1024;

/// A line without the times between its pieces.
fn join(mut text: &[u8], out: &mut Vec<u8>) {
    while text.len() > PIECE {
        let (piece, rest) = text.split_at(PIECE);
        out.extend_from_slice(piece);
        text = timed(rest).map_or(rest, |(_, text)| text);
    }
    out.extend_from_slice(text);
}

/// The time before a line, and the line. Times in UTC with nine digits sort as text.
fn timed(line: &[u8]) -> Option<(&str, &[u8])> {
    let at = line.iter().position(|b| *b == b' ')?;
    let time = std::str::from_utf8(&line[..at]).ok()?;
    let is_time = time.len() >= 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T' && time.as_bytes()[4] == b'-';
    is_time.then_some((time, &line[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[(u32, &str)]) -> Vec<u8> {
        let line = |(second, text): &(u32, &str)| format!("2026-01-02T03:04:{second:02}.000000000Z {text}\n");
        lines.iter().map(line).collect::<String>().into_bytes()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_resumed_log_has_every_line_once() {
        let all = log(&[(1, "a"), (2, "b"), (2, "c"), (2, "d"), (3, "e")]);
        // Cut anywhere, and read again from the start, from within, or from just before.
        for cut in 0..all.len() {
            let mut lines = Lines::new(false, String::new());
            let mut out = text(lines.take(&all[..cut]));
            lines.resume();
            out += &text(lines.take(&all));
            assert_eq!(out, "a\nb\nc\nd\ne\n", "cut at {cut}");
        }
    }

    #[test]
    fn two_cuts_within_one_time_still_count() {
        let all = log(&[(1, "a"), (1, "b"), (1, "c"), (2, "d")]);
        let line = all.len() / 4;
        let mut lines = Lines::new(false, String::new());
        let mut out = text(lines.take(&all[..line]));
        lines.resume();
        out += &text(lines.take(&all[..2 * line]));
        lines.resume();
        out += &text(lines.take(&all));
        assert_eq!(out, "a\nb\nc\nd\n");
    }

    #[test]
    fn times_are_shown_when_asked_for_and_a_last_line_may_have_no_end() {
        let mut lines = Lines::new(true, String::new());
        let all = log(&[(1, "a b")]);
        assert_eq!(lines.take(&all), all);
        assert_eq!(text(Lines::new(false, "[p] ".to_owned()).take(&all)), "[p] a b\n");
        let mut lines = Lines::new(false, String::new());
        assert_eq!(lines.take(b"2026-01-02T03:04:05.1Z half"), b"");
        assert_eq!(lines.rest(), b"half");
        assert_eq!(lines.take(b"no time at all\n"), b"no time at all\n");
        let (long, time) = ("x".repeat(PIECE), "2026-01-02T03:04:05.123456789Z ");
        let line = format!("{time}{long}{time}{long}{time}end\n");
        assert_eq!(text(lines.take(line.as_bytes())), format!("{long}{long}end\n"));
    }
}
