//! Rust without its comments and strings, so that the rules read code alone.

/// The source with comments, string and character literals blanked out; lines stay where they are.
pub(crate) fn without_prose(source: &str) -> String {
    let text: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < text.len() {
        let end = prose_from(&text, at);
        if end > at {
            // A blank where a literal was keeps its neighbours apart.
            code.push(' ');
            code.extend(text[at..end].iter().filter(|c| **c == '\n'));
            at = end;
        } else {
            code.push(text[at]);
            at += 1;
        }
    }
    code
}

/// Where the comment or literal that begins here ends; here, if none does.
fn prose_from(text: &[char], at: usize) -> usize {
    let ahead = |n: usize| text.get(at + n).copied().unwrap_or('\0');
    let in_word = at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_');
    match (text[at], ahead(1)) {
        ('/', '/') => until(text, at, |rest| rest[0] == '\n'),
        ('/', '*') => block_comment(text, at),
        ('"', _) => string(text, at + 1),
        ('r', '"' | '#') if !in_word => raw_string(text, at + 1).unwrap_or(at),
        ('b', 'r') if !in_word => raw_string(text, at + 2).unwrap_or(at),
        ('\'', '\\') => until(text, at + 3, |rest| rest[0] == '\'') + 1,
        // `'a'` is a character, `'a` a lifetime.
        ('\'', _) if ahead(2) == '\'' => at + 3,
        _ => at,
    }
    .min(text.len())
}

fn until(text: &[char], from: usize, stop: impl Fn(&[char]) -> bool) -> usize {
    (from..text.len()).find(|at| stop(&text[*at..])).unwrap_or(text.len())
}

fn string(text: &[char], mut at: usize) -> usize {
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string(text: &[char], from: usize) -> Option<usize> {
    let quote = until(text, from, |rest| rest[0] != '#');
    let hashes = quote - from;
    if text.get(quote) != Some(&'"') {
        return None;
    }
    let closes = |rest: &[char]| rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|c| *c == '#');
    Some(until(text, quote + 1, closes) + hashes + 1)
}

fn block_comment(text: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The words of some code: what a whole-word search runs over.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

#[test]
fn prose_is_blanked_and_code_is_kept() {
    for (source, code) in [
        ("a // b\nc", "a  \nc"),
        ("a /* b /* c */ d */ e", "a   e"),
        (r#"a("b \" c", 'd', '\'', 'e: loop {})"#, "a( ,  ,  , 'e: loop {})"),
        (r##"a(r#"b " c"#, br"d", r"e")"##, "a( ,  ,  )"),
        ("for r in a { r#fn() }", "for r in a { r#fn() }"),
        ("\"a\nb\" c", " \n c"),
    ] {
        assert_eq!(without_prose(source), code, "{source}");
    }
}
