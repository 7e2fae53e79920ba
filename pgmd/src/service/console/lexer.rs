//! From text to tokens: words, quoted text, and a few symbols, each with its place.
//!
//! A word is anything without blanks, quotes, `;`, `=`, `,` and brackets, so that server names, labels, positions, paths
//! and settings need no quotes. `'…'` and `"…"` quote, doubled inside. Comments are SQL's.

/// A token and where it begins, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// `backup`.
    Word(String),
    /// `'a text'` or `"a name"`.
    Quoted(String),
    /// One of `; = , ( )`.
    Symbol(char),
}

/// What is never closed, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unclosed {
    pub(super) what: &'static str,
    pub(super) at: usize,
}

/// The statements of `text`, without the empty ones.
pub(super) fn statements(text: &str) -> Result<Vec<Vec<Token>>, Unclosed> {
    let mut statements = vec![Vec::new()];
    for token in tokens(text)? {
        match (token.kind == Kind::Symbol(';'), statements.last_mut()) {
            (false, Some(last)) => last.push(token),
            _ => statements.push(Vec::new()),
        }
    }
    statements.retain(|statement| !statement.is_empty());
    Ok(statements)
}

fn tokens(text: &str) -> Result<Vec<Token>, Unclosed> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = match first {
            first if first.is_whitespace() => {
                at += first.len_utf8();
                continue;
            }
            _ if rest.starts_with("--") => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            _ if rest.starts_with("/*") => {
                let unclosed = Unclosed {
                    what: "/* comment",
                    at,
                };
                at += rest.find("*/").ok_or(unclosed)? + 2;
                continue;
            }
            quote @ ('\'' | '"') => {
                let unclosed = Unclosed {
                    what: if quote == '"' {
                        "quoted identifier"
                    } else {
                        "quoted string"
                    },
                    at,
                };
                let (text, length) = quoted(rest, quote).ok_or(unclosed)?;
                (Kind::Quoted(text), length)
            }
            symbol if is_symbol(symbol) => (Kind::Symbol(symbol), 1),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || is_symbol(c) || is_quote(c));
                let word = &rest[..end.unwrap_or(rest.len())];
                (Kind::Word(word.to_owned()), word.len())
            }
        };
        tokens.push(Token { kind, at });
        at += length;
    }
    Ok(tokens)
}

/// The text between the quotes at the beginning of `text`, and the length with them.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut content = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != quote {
            content.push(letter);
        } else if letters.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return Some((content, at + 1));
        }
    }
    None
}

fn is_symbol(letter: char) -> bool {
    matches!(letter, ';' | '=' | ',' | '(' | ')')
}

fn is_quote(letter: char) -> bool {
    matches!(letter, '\'' | '"')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let word = |token: Token| match token.kind {
            Kind::Word(text) => text,
            Kind::Quoted(text) => format!("<{text}>"),
            Kind::Symbol(symbol) => symbol.to_string(),
        };
        let statements = statements(text).unwrap().into_iter();
        statements
            .map(|of| of.into_iter().map(word).collect())
            .collect()
    }

    #[test]
    fn words_need_no_quotes_and_quotes_hold_anything() {
        assert_eq!(
            words("show backups prod-1; SET a.b='it''s; ok' -- end;\n; /* ; */ cancel 7"),
            [
                vec!["show", "backups", "prod-1"],
                vec!["SET", "a.b", "=", "<it's; ok>"],
                vec!["cancel", "7"]
            ]
        );
        assert!(words(" ;; ; ").is_empty());
        assert_eq!(statements("show 'x").unwrap_err().at, 5);
    }

    proptest! {
        #[test]
        fn any_text_is_cut_where_letters_begin(text: String) {
            for token in statements(&text).into_iter().flatten().flatten() {
                prop_assert!(text.is_char_boundary(token.at));
            }
        }

        #[test]
        fn what_is_quoted_comes_back(text: String) {
            let quoted = format!("'{}'", text.replace('\'', "''"));
            prop_assert_eq!(words(&quoted), [[format!("<{text}>")]]);
        }
    }
}
