//! Quoting of what enters SQL text. Names are derived (see [`super::names`]) and quoted all the same (rule D1).

/// An identifier in double quotes. NUL, which no server accepts, becomes U+FFFD.
///
/// ```
/// use paddock_operator::database::sql::quote_ident;
/// assert_eq!(quote_ident(r#"a"b"#), r#""a""b""#);
/// ```
pub fn quote_ident(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push('"');
    for c in name.chars() {
        match c {
            '"' => out.push_str("\"\""),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A string constant, right under every setting of `standard_conforming_strings`. NUL becomes U+FFFD.
///
/// ```
/// use paddock_operator::database::sql::quote_literal;
/// assert_eq!(quote_literal("it's"), "'it''s'");
/// assert_eq!(quote_literal(r"a\b"), r" E'a\\b'");
/// ```
pub fn quote_literal(text: &str) -> String {
    let escapes = text.contains('\\');
    let mut out = String::with_capacity(text.len() + 4);
    out.push_str(if escapes { " E'" } else { "'" });
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a quoted text back the way the server's scanner does; `None` if it ends early or late.
    fn unquote(text: &str, quote: char, backslash: bool) -> Option<String> {
        let mut chars = text.strip_prefix(quote)?.chars().peekable();
        let mut out = String::new();
        loop {
            match chars.next()? {
                c if c == quote => match chars.next() {
                    None => return Some(out),
                    Some(next) if next == quote => out.push(quote),
                    Some(_) => return None,
                },
                '\\' if backslash => out.push(chars.next().filter(|c| *c == '\\')?),
                c => out.push(c),
            }
        }
    }

    proptest! {
        #[test]
        fn an_identifier_is_read_back_as_one_token(name in any::<String>()) {
            let expected = name.replace('\0', "\u{fffd}");
            prop_assert_eq!(unquote(&quote_ident(&name), '"', false), Some(expected));
        }

        #[test]
        fn a_literal_is_read_back_as_one_token(text in r#"[a-z'"\\;\-\x00]{0,24}"#) {
            let expected = text.replace('\0', "\u{fffd}");
            let quoted = quote_literal(&text);
            let read = match quoted.strip_prefix(" E") {
                Some(escaped) => unquote(escaped, '\'', true),
                None => unquote(&quoted, '\'', false),
            };
            prop_assert_eq!(read, Some(expected));
        }
    }
}
